"""The heads of the tasks against all those of transformers, on the same hidden states.

`make parity`. The torch model's encoder is replaced by our encoder's hidden states, so that only
the heads are compared; their weights are random, and all of them must be used.
"""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.modeling_outputs import BaseModelOutputWithPooling  # noqa: E402

from keras_addnorm import models  # noqa: E402
from tests.common import randomize, to_numpy  # noqa: E402

# Two matrix products and a norm in float32, on hidden states of size 1 to 5.
TOLERANCE = 2e-5
WIDTH, NARROW, TOKENS, LENGTH = 16, 8, 40, 6

BERT = {
    "vocab_size": TOKENS,
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 3,
}
DISTIL = {"vocab_size": TOKENS, "dim": WIDTH, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
NARROWED = {**BERT, "embedding_size": NARROW}
MOBILE = {**NARROWED, "true_hidden_size": NARROW, "intra_bottleneck_size": NARROW}
MODERN = {**BERT, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)}
MODERN |= dict.fromkeys(("cls_token_id", "sep_token_id"), 0)
ESM = {**BERT, "pad_token_id": 1, "mask_token_id": 2}
VISION = {k: v for k, v in BERT.items() if k != "vocab_size"}
VISION |= {"image_size": 8, "patch_size": 4, "num_channels": 3}


def linear(ours, theirs, bias=True):
    rows = [(f"{ours}/kernel", f"{theirs}.weight", np.transpose)]
    return rows + [(f"{ours}/bias", f"{theirs}.bias", np.asarray)] * bias


def norm(ours, theirs, bias=True):
    rows = [(f"{ours}/gamma", f"{theirs}.weight", np.asarray)]
    return rows + [(f"{ours}/beta", f"{theirs}.bias", np.asarray)] * bias


@dataclasses.dataclass(frozen=True)
class Case:
    """A class of transformers, our task with its arguments, and where the weights go."""

    theirs: str
    config: dict
    task: str
    arguments: dict
    rows: list
    encoder: dict = dataclasses.field(default_factory=dict)


def hidden(activation, input_dropout=0.1, **options):
    return {
        "hidden_dim": WIDTH,
        "activation": activation,
        "input_dropout": input_dropout,
        **options,
    }


POOLED = {"pooling": "pooler"}
CLASSIFIER = linear("head/output", "classifier")
TWO_LAYERS = linear("head/dense", "classifier.dense") + linear("head/output", "classifier.out_proj")
ANSWER = linear("head/output", "qa_outputs")


def pooled(name, config, pooler):
    return Case(
        f"{name}ForSequenceClassification",
        config,
        "TextClassifier",
        POOLED,
        linear("pooler", pooler) + CLASSIFIER,
        {"pooler": "tanh"},
    )


def first(name, config, activation, rows=TWO_LAYERS, **options):
    arguments = {"head_options": hidden(activation, **options)}
    theirs = f"{name}ForSequenceClassification"
    return Case(theirs, config, "TextClassifier", arguments, rows)


def token(name, config):
    theirs = f"{name}ForTokenClassification"
    return Case(theirs, config, "TokenClassifier", {}, CLASSIFIER)


def answer(name, config):
    theirs, config = f"{name}ForQuestionAnswering", {**config, "num_labels": 2}
    return Case(theirs, config, "QuestionAnswering", {"dropout": 0.1}, ANSWER)


def masked(name, config, dense, layer_norm, bias, epsilon=1e-12, activation="gelu", width=WIDTH):
    arguments = {"activation": activation, "head_options": {"epsilon": epsilon}}
    rows = linear("head/dense", dense) + norm("head/norm", layer_norm)
    rows += [("logits/bias", bias, np.asarray)]
    encoder = {} if width == WIDTH else {"embedding_options": {"token_embedding_dim": width}}
    return Case(f"{name}ForMaskedLM", config, "MaskedLM", arguments, rows, encoder)


def transform(name, config, prefix="cls.predictions", layer_norm="LayerNorm", **kwargs):
    """BERT's names of the weights of a masked language model."""
    return masked(
        name,
        config,
        f"{prefix}.transform.dense",
        f"{prefix}.transform.{layer_norm}",
        f"{prefix}.decoder.bias",
        **kwargs,
    )


def lm_head(name, config, bias="lm_head.decoder.bias", epsilon=1e-12):
    """RoBERTa's names."""
    return masked(name, config, "lm_head.dense", "lm_head.layer_norm", bias, epsilon)


def modern(theirs, task, arguments, bias, **config):
    options = {
        "hidden_dim": WIDTH,
        "activation": "gelu",
        "norm": "layer_norm" if bias else "layer_norm_no_bias",
        "use_bias": True if bias else ["output"],
    }
    rows = linear("head/dense", "head.dense", bias) + norm("head/norm", "head.norm", bias)
    config = {**MODERN, "classifier_bias": bias, "norm_bias": bias, **config}
    arguments = {"head_options": options, **arguments}
    return Case(f"ModernBertFor{theirs}", config, task, arguments, rows + CLASSIFIER)


def modern_masked(bias, decoder_bias):
    names = ["dense"] * bias + ["output"] * decoder_bias
    options = {"norm": "layer_norm" if bias else "layer_norm_no_bias", "use_bias": names}
    rows = linear("head/dense", "head.dense", bias) + norm("head/norm", "head.norm", bias)
    rows += [("logits/bias", "decoder.bias", np.asarray)] * decoder_bias
    config = {**MODERN, "classifier_bias": bias, "norm_bias": bias, "decoder_bias": decoder_bias}
    return Case("ModernBertForMaskedLM", config, "MaskedLM", {"head_options": options}, rows)


def images(name, pooling, rows, encoder=None, **config):
    arguments = {"pooling": pooling}
    config, encoder = {**VISION, **config}, encoder or {}
    return Case(
        f"{name}ForImageClassification", config, "ImageClassifier", arguments, rows, encoder
    )


def half(value):
    return value.T / 2


TEACHER = [
    ("head/output/kernel[:16]", "cls_classifier.weight", half),
    ("head/output/kernel[16:]", "distillation_classifier.weight", half),
    ("head/output/bias", "cls_classifier.bias", half),
    ("head/output/bias[+]", "distillation_classifier.bias", half),
]
DISTILLED = {"embedding_options": {"num_class_tokens": 2}}
REGISTERS = {"embedding_options": {"num_register_tokens": 2}}

CASES = [
    pooled("Bert", BERT, "bert.pooler.dense"),
    token("Bert", BERT),
    answer("Bert", BERT),
    transform("Bert", BERT),
    transform("Bert", {**BERT, "hidden_act": "relu"}, activation="relu"),
    Case(
        "BertForNextSentencePrediction",
        BERT,
        "TextClassifier",
        {"pooling": "pooler", "num_classes": 2},
        linear("pooler", "bert.pooler.dense") + linear("head/output", "cls.seq_relationship"),
        {"pooler": "tanh"},
    ),
    first(
        "DistilBert",
        {**DISTIL, "num_labels": 3},
        "relu",
        linear("head/dense", "pre_classifier") + CLASSIFIER,
        input_dropout=0.0,
    ),
    token("DistilBert", {**DISTIL, "num_labels": 3}),
    answer("DistilBert", DISTIL),
    masked("DistilBert", DISTIL, "vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    *(
        case
        for name in ("Roberta", "XLMRoberta")
        for case in (
            first(name, BERT, "tanh"),
            token(name, BERT),
            answer(name, BERT),
            lm_head(name, {**BERT, "layer_norm_eps": 1e-5}, epsilon=1e-5),
        )
    ),
    first("Electra", NARROWED, "gelu"),
    token("Electra", NARROWED),
    answer("Electra", NARROWED),
    masked(
        "Electra",
        NARROWED,
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head.bias",
        width=NARROW,
    ),
    Case(
        "ElectraForPreTraining",
        NARROWED,
        "TokenClassifier",
        {"num_classes": 1, "head_options": {"hidden_dim": WIDTH, "activation": "gelu"}},
        linear("head/dense", "discriminator_predictions.dense")
        + linear("head/output", "discriminator_predictions.dense_prediction"),
    ),
    pooled("Albert", NARROWED, "albert.pooler"),
    token("Albert", NARROWED),
    answer("Albert", NARROWED),
    masked(
        "Albert",
        NARROWED,
        "predictions.dense",
        "predictions.LayerNorm",
        "predictions.decoder.bias",
        activation="gelu_tanh",
        width=NARROW,
    ),
    first("MPNet", BERT, "tanh"),
    token("MPNet", BERT),
    answer("MPNet", BERT),
    lm_head("MPNet", BERT),
    pooled("MobileBert", {**MOBILE, "classifier_activation": True}, "mobilebert.pooler.dense"),
    Case(
        "MobileBertForSequenceClassification",
        {**MOBILE, "classifier_activation": False},
        "TextClassifier",
        {},
        CLASSIFIER,
    ),
    token("MobileBert", MOBILE),
    answer("MobileBert", MOBILE),
    Case(
        "MobileBertForMaskedLM",
        MOBILE,
        "MaskedLM",
        {"activation": "relu", "head_options": {"hidden_dim": WIDTH, "epsilon": 1e-12}},
        linear("head/dense", "cls.predictions.transform.dense")
        + norm("head/norm", "cls.predictions.transform.LayerNorm")
        + [
            ("logits/dense/kernel", "cls.predictions.dense.weight", np.asarray),
            ("logits/bias", "cls.predictions.decoder.bias", np.asarray),
        ],
        {"embedding_options": {"token_embedding_dim": NARROW}},
    ),
    *(
        first(
            "DebertaV2",
            {**BERT, "pooler_hidden_act": theirs},
            ours,
            linear("head/dense", "pooler.dense") + CLASSIFIER,
        )
        for theirs, ours in (("gelu", "gelu"), ("tanh", "tanh"))
    ),
    token("DebertaV2", BERT),
    answer("DebertaV2", BERT),
    transform("DebertaV2", {**BERT, "layer_norm_eps": 1e-7}, epsilon=1e-7),
    masked(
        "DebertaV2",
        {**BERT, "legacy": False, "layer_norm_eps": 1e-7},
        "lm_predictions.lm_head.dense",
        "lm_predictions.lm_head.LayerNorm",
        "lm_predictions.lm_head.bias",
        epsilon=1e-7,
    ),
    *(
        modern(
            "SequenceClassification",
            "TextClassifier",
            {"pooling": pooling},
            bias,
            classifier_pooling=pooling,
        )
        for pooling, bias in (("cls", False), ("mean", True))
    ),
    modern("TokenClassification", "TokenClassifier", {}, False),
    modern("QuestionAnswering", "QuestionAnswering", {}, True, num_labels=2),
    modern_masked(bias=False, decoder_bias=True),
    modern_masked(bias=True, decoder_bias=False),
    pooled("NomicBert", BERT, "nomic_bert.pooler.dense"),
    token("NomicBert", BERT),
    transform("NomicBert", {**BERT, "hidden_act": "gelu"}, layer_norm="layer_norm"),
    first("Esm", ESM, "tanh"),
    token("Esm", ESM),
    lm_head("Esm", {**ESM, "layer_norm_eps": 1e-5}, "lm_head.bias", 1e-5),
    images("ViT", "cls", CLASSIFIER),
    images("DeiT", "cls", CLASSIFIER, DISTILLED),
    dataclasses.replace(
        images("DeiT", ["cls", "distillation"], TEACHER, DISTILLED),
        theirs="DeiTForImageClassificationWithTeacher",
    ),
    Case(
        "DeiTForImageClassificationWithTeacher",
        VISION,
        "ImageClassifier",
        {"distilled": True},
        linear("head/output", "cls_classifier")
        + linear("distillation_head/output", "distillation_classifier"),
        DISTILLED,
    ),
    images("Dinov2", ["cls", "mean"], CLASSIFIER),
    images("Dinov2WithRegisters", ["cls", "mean"], CLASSIFIER, REGISTERS, num_register_tokens=2),
]


class HiddenStates(torch.nn.Module):
    """In place of a torch encoder: returns given hidden states, pooled by its own pooler."""

    def __init__(self, encoder, states):
        super().__init__()
        self.states = torch.from_numpy(states)
        self.pooler = getattr(encoder, "pooler", None)
        self.embeddings = encoder.embeddings

    def forward(self, *args, **kwargs):
        pooled = None
        if isinstance(self.pooler, torch.nn.Linear):  # ALBERT's
            pooled = torch.tanh(self.pooler(self.states[:, 0]))
        elif self.pooler is not None:
            pooled = self.pooler(self.states)
        return BaseModelOutputWithPooling(last_hidden_state=self.states, pooler_output=pooled)


def our_task(case, rng):
    cls = getattr(models, case.task)
    if case.task == "ImageClassifier":
        encoder = models.ImageEncoder((8, 8, 3), 4, 1, 2, WIDTH, 32, **case.encoder)
    else:
        encoder = models.TransformerEncoder(TOKENS, 1, 2, WIDTH, 32, **case.encoder)
    classes = {} if case.task in ("MaskedLM", "QuestionAnswering") else {"num_classes": 3}
    task = randomize(cls(encoder, **{**classes, **case.arguments}), rng)
    for weight in encoder.weights:
        if weight.path.endswith("gamma"):  # around 0, all hidden states would be much the same
            weight.assign(weight.value + 1.0)
    return task


def our_inputs(task, rng):
    if "images" in task.input:
        return {"images": rng.normal(size=(3, 8, 8, 3)).astype("float32")}
    mask = np.arange(LENGTH) < np.array([[LENGTH], [4], [1]])
    inputs = {
        "token_ids": rng.integers(3, TOKENS, size=mask.shape, dtype="int32"),
        "padding_mask": mask.astype("int32"),
    }
    if "mask_positions" in task.input:
        inputs["mask_positions"] = np.tile(np.arange(LENGTH, dtype="int32"), (3, 1))
    return inputs


def their_model(case):
    cls = getattr(transformers, case.theirs)
    model = cls(cls.config_class(**case.config)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator) + 0.1)
    return model


def copy_weights(case, model, task):
    """Gives the task the weights of the torch model's head; all on both sides must be used."""
    ours = {w.path: w for w in task.weights}
    theirs = dict(model.named_parameters(remove_duplicate=False))
    rows = list(case.rows)
    if case.task == "MaskedLM":
        embeddings = model.get_input_embeddings().weight
        name = next(name for name, value in theirs.items() if value is embeddings)
        rows.append(("embeddings/token_embedding/embeddings", name, np.asarray))
    assigned = set()
    for path, name, change in rows:
        path, _, part = path.removesuffix("]").partition("[")
        value = change(theirs[name].detach().numpy())
        if part == "+":
            value = value + to_numpy(ours[path].value)
        elif part:
            start, stop = (int(x) if x else None for x in part.split(":"))
            value, kept = to_numpy(ours[path].value), value
            value[start:stop] = kept
        ours[path].assign(value)
        assigned.add(path)
    of_heads = ("head/", "distillation_head/", "logits/", "pooler/")
    heads = {path for path in ours if path.startswith(of_heads)}
    assert heads == {path for path in assigned if not path.startswith("embeddings/")}
    used = {id(theirs[name]) for _, name, _ in rows}
    prefix = f"{model.base_model_prefix}."
    unused = [k for k, v in theirs.items() if not k.startswith(prefix) and id(v) not in used]
    assert unused == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.theirs)
def test_head(case):
    rng = np.random.default_rng(0)
    task, model = our_task(case, rng), their_model(case)
    copy_weights(case, model, task)
    inputs = our_inputs(task, rng)
    encoder_inputs = {name: inputs[name] for name in task.backbone.input}
    states = to_numpy(task.backbone(encoder_inputs)["sequence_output"])
    name = model.base_model_prefix
    setattr(model, name, HiddenStates(getattr(model, name), states))
    if "images" in inputs:
        kwargs = {"pixel_values": torch.from_numpy(inputs["images"].transpose(0, 3, 1, 2).copy())}
    else:
        kwargs = {
            "input_ids": torch.from_numpy(inputs["token_ids"]).long(),
            "attention_mask": torch.from_numpy(inputs["padding_mask"]).long(),
        }
    with torch.no_grad():
        expected = model(**kwargs)
    outputs = task(inputs)
    pairs = {"logits": outputs} if not isinstance(outputs, dict) else outputs
    for key, output in pairs.items():
        want, got = expected[key].numpy(), to_numpy(output)
        difference = np.abs(got - want.reshape(got.shape)).max()
        print(
            f"{case.theirs} {key}: largest difference {difference:.2e} of {np.abs(want).max():.1f}"
        )
        assert got.std() > 1000 * TOLERANCE  # not all the same
        assert difference <= TOLERANCE
