"""One small task of each kind, with inputs and labels."""

from keras_addnorm import models
from tests.common import TINY_ENCODER, TINY_IMAGE_ENCODER, encoder_inputs, randomize

ENCODER = {**TINY_ENCODER, "num_layers": 1}
LABELS = ["cat", "dog", "mat"]
MODERN = {  # ModernBERT's head
    "hidden_dim": 8,
    "activation": "gelu",
    "norm": "layer_norm_no_bias",
    "use_bias": ["output"],
}
# Class, arguments of the encoder, arguments of the task.
TASKS = {
    "embedder": (
        models.TextEmbedder,
        {},
        {"pooling": "weighted_mean", "output_dim": 3},
    ),
    "text": (
        models.TextClassifier,
        {"pooler": "tanh", "num_segments": 2},
        {"num_classes": 3, "pooling": ["pooler", "mean"], "labels": LABELS, "dropout": 0.0},
    ),
    "several": (
        models.TextClassifier,
        {},
        {"num_classes": 3, "pooling": "last", "activation": "sigmoid", "head_options": MODERN},
    ),
    "regression": (models.TextClassifier, {}, {"num_classes": 1}),
    "token": (
        models.TokenClassifier,
        {},
        {"num_classes": 3, "activation": "softmax", "labels": LABELS},
    ),
    "replaced": (
        models.TokenClassifier,
        {},
        {"num_classes": 1, "head_options": {"hidden_dim": 8, "activation": "gelu"}},
    ),
    "answer": (models.QuestionAnswering, {"num_segments": 2}, {"head_options": MODERN}),
    "masked": (models.MaskedLM, {}, {}),
    "untied": (
        models.MaskedLM,
        {},
        {"tie_weights": False, "head_options": {"hidden_dim": 6, "use_bias": False}},
    ),
    "wider": (
        models.MaskedLM,
        {"embedding_options": {"token_embedding_dim": 4}},
        {"head_options": {"hidden_dim": 8}},
    ),
    "image": (
        models.ImageClassifier,
        {"embedding_options": {"num_class_tokens": 2, "num_register_tokens": 1}},
        {"num_classes": 3, "pooling": ["cls", "distillation", "mean"], "labels": LABELS},
    ),
    "distilled": (
        models.ImageClassifier,
        {"embedding_options": {"num_class_tokens": 2}},
        {"num_classes": 3, "distilled": True, "labels": LABELS},
    ),
}


def make(name, rng, dtype=None, **kwargs):
    """A random task, and inputs for it."""
    cls, encoder, arguments = TASKS[name]
    if cls is models.ImageClassifier:
        backbone = models.ImageEncoder(
            **{**TINY_IMAGE_ENCODER, "num_layers": 1, **encoder}, dtype=dtype
        )
        inputs = {"images": rng.normal(size=(3, 8, 12, 3)).astype("float32")}
    else:
        backbone = models.TransformerEncoder(**{**ENCODER, **encoder}, dtype=dtype)
        inputs = encoder_inputs(rng, segments=backbone.num_segments > 0)
    if cls is models.MaskedLM:
        inputs["mask_positions"] = rng.integers(0, 6, size=(3, 2), dtype="int32")
    return randomize(cls(backbone, **{**arguments, **kwargs}), rng), inputs


def targets(name, rng):
    """What `fit` learns with the default loss."""
    if name == "answer":
        return {f"{end}_logits": rng.integers(0, 6, size=3) for end in ("start", "end")}
    shapes = {"several": (3, 3), "token": (3, 6), "replaced": (3, 6, 1)}
    shapes |= dict.fromkeys(("masked", "untied", "wider"), (3, 2))
    high = {
        "several": 2,
        "replaced": 2,
        **dict.fromkeys(("image", "distilled", "text", "token"), 3),
    }
    high = high.get(name, 11)
    values = rng.integers(0, high, size=shapes.get(name, (3,)))
    return values.astype("float32") if name in ("several", "regression", "replaced") else values


def output_name(name):
    """The name of the output of an exported task, which has only one."""
    if name == "embedder":
        return "embedding"
    return "probabilities" if name in ("several", "token") else "logits"
