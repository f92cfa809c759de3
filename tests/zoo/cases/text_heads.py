"""Cases of the heads that transformers' classes of texts have."""


def heads(name, activation="hidden_act"):
    """Cases by name.

    Args:
        name: what the classes of the family begin with.
        activation: the key of the encoder's activation.
    """
    labels = {0: "O", 1: "B-PER", 2: "I-PER"}
    return {
        "classifier": (f"{name}ForSequenceClassification", {"num_labels": 3}),
        "several classes": (
            f"{name}ForSequenceClassification",
            {"id2label": labels, "problem_type": "single_label_classification"},
        ),
        "regression": (
            f"{name}ForSequenceClassification",
            {"num_labels": 1, "problem_type": "regression"},
        ),
        "tokens": (f"{name}ForTokenClassification", {"id2label": labels}),
        "answers": (f"{name}ForQuestionAnswering", {}),
        "masked_lm_relu": (f"{name}ForMaskedLM", {activation: "relu"}),
        "masked_lm_untied": (f"{name}ForMaskedLM", {"tie_word_embeddings": False}),
    }


def without(name, cases):
    """The cases but the one called `name`: a family need not have all heads."""
    return {key: case for key, case in cases.items() if key != name}
