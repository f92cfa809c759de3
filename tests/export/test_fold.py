"""A folded model is the same model, with fewer operations."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_addnorm import export, layers, zoo
from keras_addnorm.export import tflite
from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.fold import fold
from keras_addnorm.layers.norms import NORMS
from keras_addnorm.models import RESIDUALS, ImageEncoder
from tests.common import TINY_IMAGE_ENCODER, encoder_inputs, to_numpy
from tests.export.common import randomize
from tests.export.folding import applied, assert_same, encoder, stream
from tests.models import tasks
from tests.zoo import cases
from tests.zoo.common import DATA, needs_weights, reference


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", RESIDUALS)
def test_every_residual_scheme_and_norm(rng, residual, norm):
    model = encoder(residual=residual, norm=norm, embedding_norm=True, pooler="tanh")
    folded = assert_same(model, encoder_inputs(rng), key_bias=2, score_scale=2)
    joints = [x for x in folded.model.layers if isinstance(x, layers.AddNorm)]
    assert all(joint.branch_scale is None for joint in joints if joint.branch_norm == "none")
    assert not [w.path for w in folded.model.weights if "moving" in w.path]


DISENTANGLED = {"position": "disentangled", "position_options": {"bucket_size": 4}}
OPTIONS = {
    "rotary": {"position": "rotary"},
    "alibi": {"position": "alibi"},
    "relative": {"position": "relative"},
    "disentangled": DISENTANGLED,
    "c2p": {**DISENTANGLED, "attention_options": {"disentangled": {"terms": ["c2p"]}}},
    "own distances": {
        **DISENTANGLED,
        "attention_options": {"disentangled": {"share_projections": False}},
    },
    **{
        f"qk {norm}": {"attention_options": {"qk_norm": norm}}
        for norm in ("layer_norm", "layer_norm_no_bias", "rms_norm", "dynamic_tanh", "affine")
    },
    "qk rotary": {"position": "rotary", "attention_options": {"qk_norm": "rms_norm"}},
    "gate": {"attention_options": {"use_gate": True}},
    "grouped": {"num_heads": 4, "attention_options": {"num_key_value_heads": 2}},
    "value size": {"attention_options": {"num_key_value_heads": 1, "value_dim": 3}},
    "window": {"attention_options": [{"sliding_window": 2}, {}]},
    "some biases": {"attention_options": {"use_bias": ["query", "value"]}},
    "no biases": {
        "attention_options": {"use_bias": False},
        "feed_forward_options": {"use_bias": False},
    },
    "guarded": {"attention_options": {"guard_padding": True}},
    "gated": {"feed_forward_options": {"gated": True, "use_bias": ["gate"]}},
    "fused": {"feed_forward_options": {"gated": True, "fused": True, "use_bias": False}},
    "shared": {"share_layers": True},
    "two feed-forwards": {"block_options": {"num_feed_forwards": 2}},
    "bottleneck": {"block_options": {"bottleneck_dim": 4}},
    "narrow attention": {
        "block_options": {"bottleneck_dim": 4, "attention_bottleneck": "all"},
        "norm": "affine",
    },
    "learned": {"position": "learned", "num_segments": 2},
    "embeddings": {
        "position": "learned",
        "embedding_options": {
            "token_embedding_dim": 4,
            "embedding_scale": "sqrt",
            "mask_token_id": 5,
            "zero_padding": True,
        },
    },
    "window of tokens": {
        "embedding_options": {"token_embedding_dim": 4, "projection_window": 3},
        "position": "learned",
    },
    "project first": {
        "embedding_options": {"token_embedding_dim": 4, "project_first": True},
        "position": "learned",
    },
}


KEEPS_KEY_BIAS = (
    *("rotary", "disentangled", "own distances", "no biases", "some biases"),
    "narrow attention",  # A dense layer makes what keys are made of.
)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option(rng, name):
    options = {"norm": "layer_norm", **OPTIONS[name]}
    inputs = encoder_inputs(rng, segments="num_segments" in options)
    blocks = 1 if name == "shared" else 2
    keeps = name in KEEPS_KEY_BIAS or name.startswith("qk")
    expected = {
        "key_bias": 0 if keeps else blocks,
        "value_bias": 0 if name in ("gate", "no biases") else blocks,
        "score_scale": blocks,
    }
    folded = assert_same(encoder(**options), inputs, **expected)
    attentions = [x for x in folded.model.layers if isinstance(x, layers.MultiHeadAttention)]
    assert len(attentions) == blocks and all(x.scale == 1.0 for x in attentions)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_where_norms_go_into_kernels(rng, name):
    options = {"norm": "layer_norm", **OPTIONS[name], "residual": "layer_scale"}
    assert_same(encoder(**options), encoder_inputs(rng, segments="num_segments" in options))


@pytest.mark.parametrize("name", cases.FIXTURES)
def test_every_family(name):
    model = zoo.from_hugging_face(DATA / name, task="auto", preprocessor=None)
    inputs, _ = reference(DATA / name / "reference.safetensors")
    mask = inputs.get("padding_mask")
    if "mask_positions" in model.input:
        inputs["mask_positions"] = np.zeros((len(mask), 2), "int32")
    if "segment_ids" in model.input:
        inputs.setdefault("segment_ids", np.zeros_like(mask))
    folded = assert_same(model, {key: inputs[key] for key in model.input})
    assert folded.rules["score_scale"] > 0


@pytest.mark.parametrize("name", tasks.TASKS)
def test_every_task(rng, name):
    model, inputs = tasks.make(name, rng)
    folded = assert_same(model, inputs, value_bias=1, key_bias=1, score_scale=1)
    assert folded.model.output_names == model.output_names


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"residual": "deep_norm"}, {"residual_scale": 4}),
        ({"residual": "re_zero"}, {"branch_scale": 4}),
        # The last norm is an output.
        ({"residual": "pre_norm"}, {"norm_into_readers": 4}),
        ({"residual": "layer_scale"}, {"norm_into_readers": 4, "branch_scale": 4}),
        ({"residual": "sandwich_norm", "norm": "batch_norm"}, {"branch_norm": 4}),
        ({"residual": "pre_norm", "norm": "batch_norm"}, {"running_statistics": 1}),
        ({"norm": "power_norm"}, {"running_statistics": 4}),
        ({"residual": "pre_norm", "share_layers": True}, {"norm_into_readers": 1}),
        ({"residual": "re_zero", "share_layers": True}, {"branch_scale": 2}),
        ({"residual": "deep_norm", "share_layers": True}, {"residual_scale": 2}),
        ({"residual": "pre_norm", "position": "learned"}, {"centering": 4}),
        ({"residual": "layer_scale", "position": "learned"}, {"centering": 4}),
        # The mean of sinusoids is not zero.
        ({"residual": "pre_norm", "position": "sinusoidal"}, {"centering": 0}),
        ({"residual": "post_norm", "position": "learned"}, {"centering": 0}),
        (
            {"residual": "pre_norm", "position": "learned", "norm": "layer_norm_no_bias"},
            {"centering": 5},
        ),
        (
            {"norm": "affine", "block_options": {"bottleneck_dim": 4}},
            {"norm_into_projection": 4},
        ),
    ],
    ids=str,
)
def test_counts(rng, options, expected):
    folded = assert_same(encoder(**options), encoder_inputs(rng), **expected)
    assert all(folded.rules[rule] > 0 for rule, count in expected.items() if count)


def test_images(rng):
    model = randomize(ImageEncoder(**TINY_IMAGE_ENCODER, residual="layer_scale", pooler="tanh"))
    images = {"images": rng.normal(size=(3, 8, 12, 3)).astype("float32")}
    folded = assert_same(
        model, images, norm_into_readers=4, branch_scale=4, centering=4, value_bias=2
    )
    norms = [type(x).__name__ for x in folded.model._flatten_layers() if x.name.endswith("norm")]
    assert norms.count("RMSNormalization") == 4


@pytest.mark.parametrize("residual", RESIDUALS)
def test_a_folded_model_is_saved_and_loaded(rng, residual, tmp_path):
    model = encoder(
        residual=residual, position="learned", norm="batch_norm" if "sand" in residual else None
    )
    folded = fold(model).model
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    inputs = encoder_inputs(rng)
    got, want = loaded(inputs)["sequence_output"], folded(inputs)["sequence_output"]
    np.testing.assert_array_equal(to_numpy(got), to_numpy(want))


def test_folding_twice_changes_nothing_more(rng):
    once = fold(encoder(residual="layer_scale", position="learned"))
    again = assert_same(once.model, encoder_inputs(rng))
    assert applied(once) and not applied(again)


# === Files ===


@pytest.fixture
def both_files(tmp_path, monkeypatch):
    """Exports a model without and with folding; returns both reports."""

    def export_both(model, **kwargs):
        reports = []
        for folds in (False, True):
            form = dataclasses.replace(tflite.TFLITE, folds=folds)
            monkeypatch.setattr(tflite, "TFLITE", form)
            path = tmp_path / f"{folds}.tflite"
            reports.append(export.to_tflite(model, path, **kwargs))
        return reports

    return export_both


@pytest.mark.parametrize(
    ("residual", "position"),
    [
        ("deep_norm", "learned"),
        ("pre_norm", "learned"),
        ("layer_scale", "learned"),
        ("pre_norm", "rotary"),
    ],
)
def test_fewer_operations(both_files, residual, position):
    model = encoder(residual=residual, position=position)
    before, after = both_files(model, sequence_length=8)
    assert not before.folded and after.folded == applied(fold(model))
    assert sum(after.operators.values()) < sum(before.operators.values())


@needs_weights
def test_minilm(rng, both_files):
    model = zoo.from_hugging_face("minilm", task="embed")
    mask = (np.arange(32) < np.array([32, 20, 5])[:, None]).astype("int32")
    inputs = {
        "token_ids": rng.integers(1000, 30000, mask.shape, dtype="int32") * mask,
        "padding_mask": mask,
        "segment_ids": np.zeros_like(mask),
    }
    folded = assert_same(model, inputs)
    assert applied(folded) == {"score_scale": 6, "key_bias": 6, "value_bias": 6}
    before, after = both_files(model, sequence_length=64)
    # The converter moves products with constants itself, and biases cost no op.
    assert before.operators == after.operators


# === Errors ===


class Doubled(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs)


class Secret(keras.layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: keras.Sequential([x, keras.layers.Dense(2)]), "functional API.*Sequential"),
        (lambda x: Doubled(x, keras.layers.Dense(2)(x), name="d"), "'d', whose class Doubled has"),
        (
            lambda x: keras.Model(x, Secret(keras.ops.relu, name="secret")(x)),
            "'secret', a Secret, cannot be copied .*Give it a `get_config`",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ExportError, match=message):
        fold(make(stream()))
