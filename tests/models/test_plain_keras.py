"""to_plain_keras: core Keras layers only, the same outputs, files that load without the package."""

import functools
import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import ops
from keras_hub import models as hub

from keras_addnorm import export, models
from keras_addnorm.export.samples import longest_sequence
from keras_addnorm.layers.activations import ACTIVATIONS
from keras_addnorm.layers.pooling import POOLINGS
from keras_addnorm.models import to_plain_keras
from keras_addnorm.models.task import EncoderTask
from tests.backends import gradients
from tests.common import (
    TINY_ENCODER,
    TINY_IMAGE_ENCODER,
    encoder_inputs,
    flat_outputs,
    randomize,
    to_numpy,
)
from tests.export.test_registries import each_variant

# Keys that are copied for their queries, and rows of distances that are normalized after they are
# picked, have another shape, so sums may have another order: some units in the last place of
# numbers around 1. All else is equal bit for bit.
ROUNDING = 5e-6
IMAGES = [
    {},
    {"position": "none", "embedding_options": {"num_register_tokens": 2}},
    {
        "residual": "layer_scale",
        "pooler": "tanh",
        "attention_options": {"rotary": {}, "sliding_window": 3},
        "embedding_options": {"num_class_tokens": 0, "num_register_tokens": 1},
    },
]


@pytest.fixture
def no_registry():
    """Keras without the classes and functions that were registered with it."""
    registry = keras.saving.get_custom_objects()
    kept = dict(registry)
    registry.clear()
    yield
    registry.update(kept)


def encoder(rng, **kwargs):
    return randomize(models.TransformerEncoder(**{**TINY_ENCODER, **kwargs}), rng)


def image_encoder(rng, **kwargs):
    return randomize(models.ImageEncoder(**{**TINY_IMAGE_ENCODER, **kwargs}), rng)


def inputs_of(model, rng):
    """Inputs for a tiny model, padded where it takes sequences."""
    if "images" in model.input:
        return {"images": rng.normal(size=(3, 8, 12, 3)).astype("float32")}
    inputs = encoder_inputs(rng, segments="segment_ids" in model.input)
    if "mask_positions" in model.input:
        # More positions than features: axes must not be mixed up.
        inputs["mask_positions"] = rng.integers(0, 6, size=(3, 14), dtype="int32")
    return inputs


def assert_same(got, want, limit=0.0):
    keras.tree.assert_same_structure(got, want)
    for a, b in zip(flat_outputs(got), flat_outputs(want), strict=True):
        assert np.abs(a - b).max() <= limit


def check(model, rng, tmp_path, limit=0.0):
    """The plain model and its file compute what `model` does; returns the plain model."""
    inputs = inputs_of(model, rng)
    plain, want = to_plain_keras(model), model(inputs)
    names = {name: (x.name, x.shape, x.dtype) for name, x in model.input.items()}
    assert {name: (x.name, x.shape, x.dtype) for name, x in plain.input.items()} == names
    assert_same(plain(inputs), want, limit)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras", safe_mode=True)
    assert_same(loaded(inputs), plain(inputs))
    return plain


@each_variant
def test_every_variant_of_the_encoder(kwargs, rng, tmp_path, no_registry):
    heads = kwargs.get("attention_options", {})
    grouped = isinstance(heads, dict) and "num_key_value_heads" in heads
    model = encoder(rng, **{**kwargs, "num_heads": 4, "hidden_dim": 16})
    rounded = grouped or kwargs.get("position") == "disentangled"
    check(model, rng, tmp_path, ROUNDING if rounded else 0.0)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"position": "learned", "embedding_options": {"position_offset": 2}, "num_segments": 2},
        {"position": "rotary", "position_options": {"interleaved": True, "rotary_dim": 2}},
        {"attention_options": {"sliding_window": 2, "qk_norm": "layer_norm"}},
        {"norm": "batch_norm", "embedding_norm": True, "residual": "sandwich_norm"},
        {"dropout": 0.1, "attention_dropout": 0.2, "drop_path": 0.3, "pooler": "gelu_tanh"},
    ],
    ids=["offset", "interleaved", "window", "batch_norm", "dropout"],
)
def test_options_of_the_encoder(kwargs, rng, tmp_path, no_registry):
    check(encoder(rng, **kwargs), rng, tmp_path)


@pytest.mark.parametrize("kwargs", IMAGES, ids=["vit", "no_position", "rotary"])
def test_image_encoders(kwargs, rng, tmp_path, no_registry):
    check(image_encoder(rng, **kwargs), rng, tmp_path)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, rng, tmp_path, no_registry):
    kwargs = {"activation": activation, "num_layers": 1}
    check(encoder(rng, **kwargs, feed_forward_options={"gated": True}), rng, tmp_path)


HIDDEN = {"hidden_dim": 12, "activation": "gelu", "norm": "layer_norm_no_bias"}
TASKS = {
    **{name: functools.partial(models.TextEmbedder, pooling=name) for name in POOLINGS},
    "matryoshka": functools.partial(models.TextEmbedder, normalize=False, output_dim=4),
    "masked_lm": functools.partial(models.MaskedLM, activation="gelu_tanh"),
    "wide_masked_lm": functools.partial(models.MaskedLM, head_options={"hidden_dim": 12}),
    "untied_masked_lm": functools.partial(models.MaskedLM, tie_weights=False),
    "text_classifier": functools.partial(
        models.TextClassifier, num_classes=3, pooling=["cls", "pooler"], activation="softmax"
    ),
    "token_classifier": functools.partial(
        models.TokenClassifier, num_classes=3, head_options=HIDDEN
    ),
    "question_answering": models.QuestionAnswering,
}


@pytest.mark.parametrize("task", TASKS)
def test_tasks(task, rng, tmp_path, no_registry):
    backbone = encoder(rng, num_segments=2, embedding_norm=True, pooler="tanh")
    check(randomize(TASKS[task](backbone), rng), rng, tmp_path)


@pytest.mark.parametrize("kwargs", [{"pooling": ["cls", "mean"]}, {"distilled": True}], ids=str)
def test_image_classifiers(kwargs, rng, tmp_path, no_registry):
    options = {"num_class_tokens": 2, "num_register_tokens": 1}
    task = models.ImageClassifier(image_encoder(rng, embedding_options=options), 3, **kwargs)
    check(randomize(task, rng), rng, tmp_path)


def test_the_original_is_left_as_it_is(rng):
    model = encoder(rng, attention_options={"num_key_value_heads": 1})
    inputs = inputs_of(model, rng)
    before, config, weights = model(inputs), model.get_config(), len(model.weights)
    plain = to_plain_keras(model)
    for weight in plain.weights:
        weight.assign(ops.zeros_like(weight))
    assert_same(model(inputs), before)
    assert model.get_config() == config and len(model.weights) == weights


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
def test_other_precisions_become_float32(dtype, rng, tmp_path):
    model = encoder(rng, dtype=dtype)
    plain = check(model, rng, tmp_path, limit=0.1)  # the rounding of `model`
    same = models.TransformerEncoder(**TINY_ENCODER)
    same.set_weights([to_numpy(weight) for weight in model.weights])
    inputs = inputs_of(model, rng)
    assert_same(plain(inputs), same(inputs))
    assert {layer.dtype_policy.name for layer in plain.layers} == {"float32"}


def test_lora_is_merged(rng, tmp_path):
    model = encoder(rng)
    model.enable_lora(2)
    plain = check(randomize(model, rng), rng, tmp_path)
    assert not [weight.path for weight in plain.weights if "lora" in weight.path]


def by_name(weights, values):
    """Values by the path of their weights, in which an original and its plain model agree."""
    return {
        weight.path.replace("/", "_").removesuffix("_embeddings"): to_numpy(value)
        for weight, value in zip(weights, values, strict=True)
    }


@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm", "power_norm"])
def test_training_is_the_same(norm, rng):
    """Outputs, gradients and running averages, which leave padding out."""
    model = encoder(rng, norm=norm, dropout=0.0, residual="layer_scale", num_layers=1)
    plain = to_plain_keras(model)
    inputs, factors = inputs_of(model, rng), rng.normal(size=(3, 6, 8)).astype("float32")
    found = []
    for m in (plain, model):

        def loss(m=m):
            outputs = m(inputs, training=True)["sequence_output"]
            return ops.mean(ops.square(ops.subtract(outputs, factors)))

        found.append(by_name(m.trainable_weights, gradients(m, loss)))
    assert set(found[0]) == set(found[1])
    # Twice as many rows are summed in power norm, all of which are around 1.
    for name, want in found[1].items():
        got = found[0][name].reshape(want.shape)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6, err_msg=name)
    assert_same(plain(inputs), model(inputs), limit=0.0 if norm != "power_norm" else 2e-6)


def test_dropout_and_frozen_layers(rng):
    model = encoder(rng, dropout=0.5, attention_dropout=0.0, drop_path=0.0)
    model.get_layer("layer_0_attention").trainable = False
    plain = to_plain_keras(model)
    assert len(plain.trainable_weights) == len(model.trainable_weights)
    rates = [x.rate for x in plain.layers if isinstance(x, keras.layers.Dropout)]
    assert rates == [0.5] * (1 + 2 * 2)
    inputs = inputs_of(model, rng)
    outputs = [to_numpy(plain(inputs, training=True)["sequence_output"]) for _ in range(2)]
    assert np.abs(outputs[0] - outputs[1]).max() > 0.1


def numbers(config):
    """The lengths of all lists of numbers in a config."""
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list):
        if config and all(isinstance(x, (int, float)) for x in config):
            yield len(config)
        for value in config:
            yield from numbers(value)


@pytest.mark.parametrize("position", ["sinusoidal", "rotary", "relative"])
def test_tables_are_weights_and_not_in_the_config(position, rng, tmp_path):
    options = {"sliding_window": 9} | ({"rotary": {}} if position != "rotary" else {})
    model = encoder(rng, position=position, max_sequence_length=300, attention_options=options)
    to_plain_keras(model).save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as archive:
        config = archive.read("config.json")
    assert max(numbers(json.loads(config))) <= 8 and len(config) < 200_000


def test_equal_tables_are_one(rng):
    plain = to_plain_keras(encoder(rng, position="rotary"))
    tables = [layer for layer in plain.layers if "table" in layer.name]
    assert len(tables) == 2 and not any(layer.trainable for layer in tables)  # sines, cosines


FRESH_PROCESS = """
import sys

sys.modules["keras_addnorm"] = sys.modules["keras_hub"] = None  # an import of them would fail
import keras
import numpy as np

for name in sys.argv[1:]:
    model = keras.saving.load_model(f"{name}.keras")
    outputs = model(dict(np.load(f"{name}.npz")))
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    np.savez(f"{name}_outputs.npz", **{key: np.asarray(x) for key, x in outputs.items()})
loaded = {name.split(".")[0] for name, module in sys.modules.items() if module is not None}
assert "keras" in loaded and not loaded & {"keras_addnorm", "keras_hub"}
"""


def test_files_load_in_a_process_without_the_package(rng, tmp_path):
    embedder = models.TextEmbedder(encoder(rng, num_segments=2, residual="deep_norm"))
    modern = encoder(rng, position="rotary", residual="re_zero", norm="power_norm", pooler="tanh")
    originals = {"embedder": embedder, "modern": modern, "vit": image_encoder(rng, **IMAGES[1])}
    wanted = {}
    for name, model in originals.items():
        inputs = inputs_of(model, rng)
        np.savez(tmp_path / f"{name}.npz", **inputs)
        to_plain_keras(model).save(tmp_path / f"{name}.keras")
        wanted[name] = flat_outputs(model(inputs))
    command = [sys.executable, "-c", FRESH_PROCESS, *originals]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    for name, want in wanted.items():
        got = np.load(tmp_path / f"{name}_outputs.npz")
        for a, b in zip([got[key] for key in sorted(got)], want, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("position", "length"), [("learned", 8), ("rotary", None), ("relative", None)]
)
def test_export(position, length, rng, tmp_path):
    plain = to_plain_keras(encoder(rng, position=position, hidden_dim=32))
    assert longest_sequence(plain) == TINY_ENCODER["max_sequence_length"]
    report = export.to_tflite(plain, tmp_path / "m.tflite", sequence_length=length)
    assert set(report.verification) == {"sequence_output"}
    if length:  # As its original: what is counted along the inputs is known at conversion.
        assert report.xnnpack_partitions == 1


def test_keras_own_export(rng, tmp_path):
    import tensorflow as tf

    model = encoder(rng)
    to_plain_keras(model).export(tmp_path / "m", verbose=False)
    inputs = inputs_of(model, rng)
    saved = tf.saved_model.load(str(tmp_path / "m"))
    assert_same(saved.serve(inputs), model(inputs), limit=ROUNDING)  # a graph fuses operations


def test_plain_models_can_be_quantized_and_saved(rng, tmp_path):
    plain = to_plain_keras(encoder(rng, num_layers=1))
    plain.quantize("int8")
    plain.save(tmp_path / "m.keras")
    inputs = encoder_inputs(rng)
    assert_same(keras.saving.load_model(tmp_path / "m.keras")(inputs), plain(inputs))


def test_other_models_are_refused(rng):
    x = keras.Input((4,))
    with pytest.raises(ValueError, match="takes a TransformerEncoder.*type Functional"):
        to_plain_keras(keras.Model(x, keras.layers.Dense(2)(x)))
    model = encoder(rng, num_layers=1)
    model.quantize("int8")
    with pytest.raises(ValueError, match="takes float models.*first 'embeddings/token_embedding'"):
        to_plain_keras(model)


class Half(keras.regularizers.Regularizer):
    def __call__(self, x):
        return ops.sum(x) / 2

    def get_config(self):
        return {}


class Numbers(keras.layers.Layer):
    """What no symbolic tensor can give: the values."""

    def call(self, x):
        return ops.multiply(x, float(ops.convert_to_numpy(x).max()))

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


class Task(EncoderTask, hub.Task):
    """An encoder with any layer on it."""

    def __init__(self, backbone, layer):
        self.backbone, self.preprocessor = backbone, None
        outputs = layer(backbone(backbone.input)["sequence_output"])
        super().__init__(inputs=backbone.input, outputs=outputs)


def test_parts_that_cannot_be_rebuilt_are_named(rng):
    with pytest.raises(ValueError, match="cannot rebuild the layer 'odd', a Numbers"):
        to_plain_keras(Task(encoder(rng), Numbers(name="odd")))
    task = Task(encoder(rng), keras.layers.Dense(2, kernel_regularizer=Half(), name="logits"))
    with pytest.raises(ValueError, match="cannot copy the layer 'logits', a Dense"):
        to_plain_keras(task)
    with keras.saving.custom_object_scope({"Half": Half}):
        with pytest.raises(ValueError, match=r"with tests\.models\.test_plain_keras\.Half"):
            to_plain_keras(task)
