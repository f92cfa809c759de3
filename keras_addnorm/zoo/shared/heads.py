"""The heads that transformers puts on its encoders, as data of what their tensors are called.

Each function makes a `Head`. Names of tensors are whole, without `.weight` and `.bias`.
"""

from keras_addnorm.zoo.config import default_labels, key_of
from keras_addnorm.zoo.family import Head
from keras_addnorm.zoo.shared.bert_like import token_width
from keras_addnorm.zoo.weight import Weight, dense, norm

# A text that may have several classes gets a probability for each; transformers leaves the
# sigmoid to whoever reads the logits.
PROBLEM_TYPES = {
    "single_label_classification": None,
    "regression": None,
    "multi_label_classification": "sigmoid",
}

# The key of the rate that most heads share; without it, it is that of the encoder.
CLASSIFIER_DROPOUT = ("classifier_dropout", None)
# Heads without a key: their rate is that of the encoder.
ENCODER_DROPOUT = (None, None)


def text_classifier(
    output="classifier",
    dense=None,
    activation="tanh",
    input_dropout=True,
    pooling="cls",
    dropout=CLASSIFIER_DROPOUT,
):
    """The head of `ForSequenceClassification`.

    Args:
        output: the last layer.
        dense: the hidden layer, or None.
        activation: of the hidden layer.
        input_dropout: whether there is dropout before the hidden layer too.
        pooling: as in `TextClassifier`.
        dropout: key of the rate, and its value where there is no key.
    """

    def arguments(reader, config):
        rate = _rate(reader, config, *dropout)
        options = _hidden(config, activation) if dense else {}
        if dense and input_dropout:
            options["input_dropout"] = rate
        problem = reader.optional("problem_type", reader.mapped, PROBLEM_TYPES)
        return {
            **_classes(reader, activation=problem),
            "pooling": pooling,
            "dropout": rate,
            "head_options": options,
        }

    def config_keys(config, arguments):
        return {**_classifier_keys(config, arguments), **_rate_keys(arguments, dropout[0])}

    return Head("classify", arguments, _dense_rows(output, dense), config_keys)


def token_classifier(output="classifier", dropout=CLASSIFIER_DROPOUT):
    """The head of `ForTokenClassification`; the arguments are those of `text_classifier`."""

    def arguments(reader, config):
        rate = _rate(reader, config, *dropout)
        return {**_classes(reader), "dropout": rate, "head_options": {}}

    def config_keys(config, arguments):
        return {**_class_keys(arguments), **_rate_keys(arguments, dropout[0])}

    return Head("classify_tokens", arguments, _dense_rows(output), config_keys)


def replaced_tokens(output, dense):
    """The head of ELECTRA's discriminators, which scores tokens as replaced."""

    def arguments(reader, config):
        return {
            "num_classes": 1,
            "activation": None,
            "dropout": 0.0,
            "head_options": _hidden(config, config["activation"]),
        }

    return Head("classify_tokens", arguments, _dense_rows(output, dense), _no_keys)


def question_answering(output="qa_outputs", dropout=(None, 0.0)):
    """The head of `ForQuestionAnswering`; the arguments are those of `text_classifier`."""

    def arguments(reader, config):
        if len(reader.labels()) != 2:
            reader.problems.append(
                "config key `id2label` must name 2 labels, for the two ends of an answer"
            )
        return {"dropout": _rate(reader, config, *dropout), "head_options": {}}

    def config_keys(config, arguments):
        return _rate_keys(arguments, dropout[0])

    return Head("answer", arguments, _dense_rows(output, classes=2), config_keys)


def masked_lm(
    dense, norm, decoder, table, bias=None, activation=None, decoder_bias=True, rest=None
):
    """The head of `ForMaskedLM`.

    Args:
        dense, norm: the hidden layer and its norm.
        decoder: the layer of the logits, tied to `table` or not.
        table: the tensor of the token embeddings.
        bias: tensor of the bias of the logits, where it is not the decoder's own.
        activation: of the hidden layer. Default: the encoder's.
        decoder_bias: whether the decoder has a bias of its own, which then counts if it is untied.
        rest: the tensor of the logits' kernel for features beyond the width of the table, where
            the hidden layer is as wide as the encoder (MobileBERT).
    """
    kernel, own = f"{decoder}.weight", f"{decoder}.bias" if decoder_bias else bias

    def arguments(reader, config):
        if rest and token_width(config) >= config["hidden_dim"]:
            reader.problems.append(f"tensor `{rest}` has no values: the table is wide enough")
        return {
            "activation": activation or config["activation"],
            "tie_weights": reader.flag("tie_word_embeddings", default=True),
            "head_options": {"hidden_dim": config["hidden_dim"]} if rest else {},
        }

    def weights(config, arguments):
        tied, tokens = arguments["tie_weights"], config["vocabulary_size"]
        width = token_width(config)
        hidden = config["hidden_dim"] if rest else width
        rows = _dense("head/dense", dense, config["hidden_dim"], hidden)
        rows += _norm("head/norm", norm, hidden)
        rows.append(Weight("logits/bias", bias if bias and tied else own, (tokens,)))
        ours, start = "logits/dense/kernel", 0 if tied else width
        if not tied:
            into = (0, width) if rest else None
            rows.append(Weight(ours, kernel, (tokens, width), axes=(1, 0), into=into))
        if rest:
            into = (start, start + hidden - width)
            rows.append(Weight(ours, rest, (hidden - width, tokens), into=into))
        return rows

    def copies(arguments):
        if not arguments["tie_weights"]:
            return {}
        return {kernel: table, **({own: bias} if bias and own != bias else {})}

    def unread(arguments):
        if arguments["tie_weights"] or bias in (None, own):
            return {}
        return {bias: own}

    def config_keys(config, arguments):
        return {"tie_word_embeddings": arguments["tie_weights"]}

    return Head("fill_mask", arguments, weights, config_keys, copies, unread)


def image_classifier(output="classifier", pooling="cls", distilled=None):
    """The head of `ForImageClassification`.

    Args:
        output: the last layer.
        pooling: as in `ImageClassifier`.
        distilled: the last layer of the distillation token's own head, or None.
    """

    def arguments(reader, config):
        problem = reader.optional("problem_type", reader.mapped, PROBLEM_TYPES)
        return {
            **_classes(reader, activation=problem),
            "pooling": pooling,
            "dropout": 0.0,
            "head_options": {},
            "distilled": distilled is not None,
        }

    def weights(config, arguments):
        width = config["hidden_dim"] * (1 if isinstance(pooling, str) else len(pooling))
        rows = _dense("head/output", output, width, arguments["num_classes"])
        if distilled is not None:
            name = "distillation_head/output"
            rows += _dense(name, distilled, width, arguments["num_classes"])
        return rows

    return Head("classify_images", arguments, weights, _classifier_keys)


# `dense` and `norm` are names of arguments above.
_dense, _norm = dense, norm


def _dense_rows(output, dense=None, classes=None):
    """The table of a head that is one or two dense layers."""

    def weights(config, arguments):
        width, count = config["hidden_dim"], classes or arguments["num_classes"]
        rows = _dense("head/dense", dense, width, width) if dense else []
        return rows + _dense("head/output", output, width, count)

    return weights


def _hidden(config, activation):
    return {"hidden_dim": config["hidden_dim"], "activation": activation}


def _no_keys(config, arguments):
    return {}


def _classes(reader, activation=None):
    labels = reader.labels()
    return {"num_classes": len(labels), "labels": labels, "activation": activation}


def _classifier_keys(config, arguments):
    keys = _class_keys(arguments)
    if arguments["activation"] is not None:
        keys["problem_type"] = key_of(PROBLEM_TYPES, arguments["activation"])
    return keys


def _class_keys(arguments):
    names = arguments["labels"] or default_labels(arguments["num_classes"])
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def _rate(reader, config, key, default):
    value = None if key is None else reader.optional(key, reader.number, low=0.0, high=0.999)
    if value is not None:
        return value
    return config["dropout"] if default is None else default


def _rate_keys(arguments, key):
    return {} if key is None else {key: arguments["dropout"]}
