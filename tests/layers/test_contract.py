"""What every layer of the package must do, whatever it computes."""

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_addnorm import layers
from tests.backends import COMPILED, compiled, gradients, tensorflow_only
from tests.common import flat_outputs, keras_mask, randomize

BATCH, LENGTH, FEATURES = 3, 5, 8


def floats(*names):
    return {name: (LENGTH, FEATURES) for name in names}


def distances(*names):
    """The vectors of all distances of as many queries as keys."""
    return {name: (2 * LENGTH, FEATURES) for name in names}


def tokens(*names):
    return {name: (LENGTH,) for name in names}


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration of a layer class and the shapes of its float and int inputs."""

    cls: str
    kwargs: dict
    floats: dict
    ints: dict = dataclasses.field(default_factory=dict)
    any_length: bool = True  # whether the first axis after the batch may be of unknown size

    def layer(self, **kwargs):
        return getattr(layers, self.cls)(**{**self.kwargs, **kwargs})

    def inputs(self, rng):
        arrays = {
            name: rng.normal(size=(BATCH, *shape)).astype("float32")
            for name, shape in self.floats.items()
        }
        for name, shape in self.ints.items():
            arrays[name] = rng.integers(0, 2, size=(BATCH, *shape), dtype="int32")
            arrays[name][0] = 0  # as a mask: a sequence with nothing at all,
            arrays[name][-1, :-1] = 1  # and one with several positions to choose from
        return arrays

    def symbolic(self, length=LENGTH):
        length = length if self.any_length else LENGTH
        inputs = {
            name: keras.Input((length and s[0], *s[1:]), name=name)
            for name, s in self.floats.items()
        }
        for name in self.ints:
            inputs[name] = keras.Input((length,), dtype="int32", name=name)
        return inputs


CASES = [
    Case("AddNorm", {}, floats("x", "y")),
    Case("AddNorm", {"norm": "none", "branch_scale": 0.5}, floats("x", "y")),
    Case(
        "AddNorm",
        {"norm": "rms_norm", "residual_scale": 2.0, "dropout": 0.1, "return_sum": True},
        floats("x", "y"),
    ),
    Case("AddNorm", {"norm": keras.layers.LayerNormalization(center=False)}, floats("x", "y")),
    Case(
        "AddNorm",
        {
            "norm": "batch_norm",
            "branch_scale": 0.5,
            "branch_scale_axis": -1,
            "branch_norm": "power_norm",
            "drop_path": 0.1,
        },
        floats("x", "y"),
        tokens("mask"),
    ),
    Case("AddNorm", {"norm": "dynamic_tanh", "branch_norm": "layer_norm"}, floats("x", "y")),
    Case("AddNorm", {"norm": "affine", "branch_norm": "layer_norm_no_bias"}, floats("x", "y")),
    Case("Affine", {}, floats("x")),
    Case("Dropout", {"rate": 0.1, "noise_shape": (None, 1, None), "seed": 1}, floats("inputs")),
    Case("DynamicTanh", {"alpha": 0.75}, floats("x")),
    Case("FeedForward", {"intermediate_dim": 16}, floats("x")),
    Case(
        "FeedForward",
        {"intermediate_dim": 16, "activation": "gelu_tanh", "output_dim": 3, "use_bias": False},
        floats("x"),
    ),
    Case(
        "FeedForward",
        {"intermediate_dim": 16, "activation": "silu", "gated": True, "dropout": 0.1},
        floats("x"),
    ),
    Case(
        "FeedForward",
        {
            "intermediate_dim": 16,
            "activation": "quick_gelu",
            "gated": True,
            "fused": True,
            "use_bias": False,
        },
        floats("x"),
    ),
    Case("Head", {"output_dim": 3, "use_bias": ["output"], "dropout": 0.1}, floats("x")),
    Case(
        "Head",
        {
            "output_dim": 3,
            "hidden_dim": 6,
            "activation": "gelu",
            "norm": "layer_norm",
            "epsilon": 1e-3,
            "dropout": 0.1,
            "input_dropout": 0.1,
        },
        floats("x"),
    ),
    Case("Head", {"output_dim": None, "hidden_dim": 6, "norm": "rms_norm"}, floats("x")),
    Case("LearnedPositionEncoding", {"max_sequence_length": 6}, floats("x")),
    Case("LearnedPositionEncoding", {"max_sequence_length": 5, "position_offset": 2}, floats("x")),
    Case("MultiHeadAttention", {"num_heads": 2}, floats("query"), tokens("key_mask")),
    Case(
        "MultiHeadAttention",
        {"num_heads": 3, "key_dim": 4, "value_dim": 5, "output_dim": 6, "dropout": 0.1},
        floats("query", "value", "key"),
        tokens("query_mask", "value_mask"),
    ),
    Case(
        "MultiHeadAttention",
        {
            "num_heads": 4,
            "key_dim": 4,
            "num_key_value_heads": 2,
            "sliding_window": 3,
            "rotary": {"rotary_dim": 2, "max_sequence_length": 9},
            "qk_norm": "rms_norm",
            "use_gate": True,
            "use_bias": ["query", "output"],
        },
        floats("query"),
        tokens("key_mask"),
    ),
    Case(
        "MultiHeadAttention",
        {
            "num_heads": 2,
            "disentangled": {"terms": ["c2p", "p2c"], "share_projections": True, "dropout": 0.1},
        },
        {**floats("query"), **distances("relative_keys", "relative_queries")},
        tokens("key_mask"),
    ),
    Case(
        "MultiHeadAttention",
        {
            "num_heads": 2,
            "disentangled": {"share_projections": False},
            "sliding_window": 4,
            "scale": 0.25,
        },
        {**floats("query"), **distances("relative_keys", "relative_queries")},
    ),
    Case("ALiBi", {"num_heads": 2}, floats("x")),
    Case("RelativeEmbedding", {"bucket_size": 4, "max_distance": 6}, floats("x")),
    Case(
        "RelativeEmbedding", {"bucket_size": None, "max_distance": 3, "norm": "none"}, floats("x")
    ),
    Case("RelativePositionBias", {"num_heads": 2, "num_buckets": 8}, floats("x")),
    Case("RotaryEmbedding", {"frequency_dtype": "float16"}, {"x": (LENGTH, 2, FEATURES)}),
    Case("RotaryEmbedding", {"interleaved": True}, {"x": (LENGTH, 2, FEATURES)}),
    Case(
        "PatchEmbedding",
        {"patch_size": [LENGTH, 2], "embedding_dim": 8, "num_register_tokens": 2},
        {"images": (LENGTH, 8, 3)},
        any_length=False,  # its positions are for one image size
    ),
    Case(
        "PatchEmbedding",  # 4 patches and the class token: as many as an image has rows
        {
            "patch_size": [LENGTH, 2],
            "embedding_dim": 8,
            "position": "none",
            "use_bias": False,
            "dropout": 0.1,
        },
        {"images": (LENGTH, 8, 3)},
    ),
    Case("PowerNormalization", {"epsilon": 1e-3}, floats("x"), tokens("mask")),
    Case("Projection", {"output_dim": 3}, floats("x")),
    Case(
        "Projection",
        {"output_dim": 4, "norm": "batch_norm", "epsilon": 1e-3, "use_bias": False},
        floats("x"),
        tokens("mask"),
    ),
    Case("SequenceConvolution", {}, floats("x"), tokens("mask")),
    Case(
        "SequenceConvolution",
        {
            "kernel_size": 5,
            "activation": "gelu",
            "groups": 4,
            "dropout": 0.1,
            "use_bias": False,
            "guard_padding": False,
        },
        floats("x"),
    ),
    Case("SequencePooling", {}, floats("x"), tokens("padding_mask")),
    Case(
        "SequencePooling",
        {"pooling": "max", "normalize": True},
        floats("x"),
        tokens("padding_mask"),
    ),
    Case("SequencePooling", {"pooling": "last", "skip": 1}, floats("x"), tokens("padding_mask")),
    Case(
        "SequencePooling",
        {"pooling": "weighted_mean", "normalize": True, "output_dim": 3},
        floats("x"),
        tokens("padding_mask"),
    ),
    Case("SinusoidalPositionEncoding", {"max_wavelength": 100.0}, floats("x")),
    Case(
        "TokenAndPositionEmbedding",
        {"vocabulary_size": 2, "max_sequence_length": 6, "embedding_dim": FEATURES},
        {},
        tokens("token_ids"),
    ),
    Case(
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 2,
            "max_sequence_length": 6,
            "embedding_dim": FEATURES,
            "position": "sinusoidal",
            "num_segments": 2,
            "embedding_norm": "rms_norm",
            "mask_zero": True,
        },
        {},
        tokens("token_ids", "segment_ids"),
    ),
    Case(
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 2,
            "max_sequence_length": 6,
            "embedding_dim": FEATURES,
            "num_segments": 1,
            "embedding_norm": True,
            "position_offset": 2,
            "token_embedding_dim": 4,
            "embedding_scale": "sqrt",
            "dropout": 0.1,
        },
        {},
        tokens("token_ids"),
    ),
    Case(
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 2,
            "max_sequence_length": 6,
            "embedding_dim": FEATURES,
            "position": "none",
            "embedding_scale": 2.0,
            "mask_zero": True,
        },
        {},
        tokens("token_ids"),
    ),
    Case(
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 2,
            "max_sequence_length": 6,
            "embedding_dim": FEATURES,
            "embedding_norm": "batch_norm",
        },
        {},
        tokens("token_ids", "mask"),
    ),
    Case(
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 2,
            "max_sequence_length": 6,
            "embedding_dim": FEATURES,
            "embedding_norm": "affine",
            "token_embedding_dim": 3,
            "projection_window": 3,
            "mask_token_id": 1,
            "mask_token_rate": 0.25,
            "zero_padding": True,
        },
        {},
        tokens("token_ids", "mask"),
    ),
    Case(
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 2,
            "max_sequence_length": 6,
            "embedding_dim": FEATURES,
            "embedding_norm": True,
            "token_embedding_dim": 3,
            "project_first": True,
        },
        {},
        tokens("token_ids"),
    ),
    Case(
        "TransformerEncoderLayer",
        {"intermediate_dim": 16, "num_heads": 2},
        floats("x"),
        tokens("padding_mask"),
    ),
    Case(
        "TransformerEncoderLayer",
        {
            "intermediate_dim": 16,
            "num_heads": 2,
            "activation": "gelu",
            "norm": "rms_norm",
            "epsilon": 1e-3,
        },
        floats("x"),
    ),
    Case(
        "TransformerEncoderLayer",
        {"intermediate_dim": 16, "num_heads": 2, "norm": "power_norm"},
        floats("x"),
        tokens("padding_mask"),
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.cls)


def test_every_public_layer_has_a_row():
    assert {case.cls for case in CASES} == set(layers.__all__)


@each_case
def test_is_registered_under_the_package(case):
    cls = getattr(layers, case.cls)
    name = f"keras_addnorm>{case.cls}"
    assert keras.saving.get_registered_name(cls) == name
    assert keras.saving.get_registered_object(name) is cls


@each_case
def test_config_round_trip_through_json(rng, case):
    inputs = case.inputs(rng)
    layer = case.layer(name="mine")
    outputs = flat_outputs(layer(**inputs))
    config = layer.get_config()
    revived = type(layer).from_config(json.loads(json.dumps(config)))
    assert revived.get_config() == config
    assert set(inspect.signature(type(layer)).parameters) - {"kwargs"} <= set(config)
    for name, value in case.kwargs.items():
        if not isinstance(value, keras.Layer):  # else serialized
            assert config[name] == value
    revived(**inputs)
    assert [w.shape for w in revived.weights] == [w.shape for w in layer.weights]
    revived.set_weights(layer.get_weights())
    for got, want in zip(flat_outputs(revived(**inputs)), outputs, strict=True):
        np.testing.assert_array_equal(got, want)


@each_case
@pytest.mark.parametrize("length", [LENGTH, None])
def test_saved_model_is_bit_equal(rng, case, length, tmp_path):
    symbolic = case.symbolic(length)
    layer = case.layer()
    model = keras.Model(symbolic, layer(**symbolic))
    randomize(layer, rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = case.inputs(rng)
    wants = flat_outputs(model(inputs))
    for got, want in zip(flat_outputs(loaded(inputs)), wants, strict=True):
        np.testing.assert_array_equal(got, want)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_symbolic_shape_and_dtype_are_the_eager_ones(rng, case, dtype):
    layer = case.layer(dtype=dtype)
    specs = keras.tree.flatten(layer(**case.symbolic()))
    outputs = keras.tree.flatten(layer(**case.inputs(rng)))
    assert len(specs) == len(outputs) > 0
    for spec, output in zip(specs, outputs, strict=True):
        batch = None if output.shape[0] == BATCH else 1  # Positions are the same for all.
        assert spec.shape == (batch, *output.shape[1:])
        assert spec.dtype == keras.backend.standardize_dtype(output.dtype)
    unknown = keras.tree.flatten(case.layer()(**case.symbolic(None)))
    for spec, output in zip(unknown, outputs, strict=True):
        want = [None if size in (LENGTH, 2 * LENGTH) else size for size in output.shape[1:]]
        assert list(spec.shape) == [None if output.shape[0] == BATCH else 1, *want]


@each_case
def test_gradients_reach_every_weight(rng, case):
    inputs = case.inputs(rng)
    layer = case.layer()
    layer(**inputs)
    randomize(layer, rng)
    # A random weighting: the plain sum of a normalized row is constant.
    weightings = [rng.normal(size=x.shape).astype("float32") for x in flat_outputs(layer(**inputs))]

    def loss():
        outputs = keras.tree.flatten(layer(**inputs))
        return sum(ops.sum(ops.multiply(x, w)) for x, w in zip(outputs, weightings, strict=True))

    found = gradients(layer, loss)
    for weight, gradient in zip(layer.trainable_weights, found, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient).all(), weight.path
        # A key bias adds the same to all scores of a query, so its gradient is truly 0.
        assert np.any(gradient) or weight.path.endswith("key/bias"), weight.path


@each_case
def test_a_row_does_not_depend_on_its_batch(rng, case):
    inputs = case.inputs(rng)
    layer = case.layer()
    layer(**inputs)
    randomize(layer, rng)
    wholes = flat_outputs(layer(**inputs))
    for row in range(BATCH):
        alone = flat_outputs(layer(**{name: x[row : row + 1] for name, x in inputs.items()}))
        for got, whole in zip(alone, wholes, strict=True):
            # Another matrix shape may sum in another order: a few units of 6e-8 of size 1.
            np.testing.assert_allclose(got[0], whole[row % len(whole)], rtol=1e-6, atol=1e-6)


@each_case
@pytest.mark.parametrize("how", COMPILED)
def test_compiled_output_is_the_eager_one(rng, case, how):
    inputs = case.inputs(rng)
    layer = case.layer()
    layer(**inputs)
    randomize(layer, rng)
    wants = flat_outputs(layer(**inputs))
    outputs = flat_outputs(compiled(layer, how)(**inputs))
    for got, want in zip(outputs, wants, strict=True):
        # XLA fuses and sums in another order: a few units of 6e-8 of values of size 1 to 10.
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def state(layer):
    return [keras.ops.convert_to_numpy(variable.value) for variable in layer.variables]


@each_case
@pytest.mark.parametrize("how", COMPILED)
def test_compiled_training_step_updates_the_state_as_an_eager_one(rng, case, how):
    inputs = case.inputs(rng)
    layer = case.layer()
    if not layer._call_has_training_arg:
        pytest.skip("does not tell training from inference")
    layer(**inputs)
    randomize(layer, rng)
    before = state(layer)  # with the seeds of dropout, so that both calls drop the same
    wants = [*flat_outputs(layer(**inputs, training=True)), *state(layer)]
    for variable, value in zip(layer.variables, before, strict=True):
        variable.assign(value)
    got = [*flat_outputs(compiled(layer, how, training=True)(**inputs)), *state(layer)]
    for a, b in zip(got, wants, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)  # as above


# The int inputs that say which positions are padding, and the float inputs whose rows they hide.
PADDING_MASKS = {"mask": ("x", "y"), "padding_mask": ("x",), "key_mask": ("query",)}
with_padding = pytest.mark.parametrize(
    "case", [case for case in CASES if set(case.ints) & set(PADDING_MASKS)], ids=lambda c: c.cls
)


@with_padding
@pytest.mark.parametrize("value", [1e6, np.inf, np.nan])
def test_content_of_padding_reaches_no_real_row(rng, case, value):
    inputs = case.inputs(rng)
    (name,) = set(case.ints) & set(PADDING_MASKS)
    keep = inputs[name] == 1
    layer = case.layer()
    layer(**inputs)
    randomize(layer, rng)
    wants = flat_outputs(layer(**inputs))
    for hidden in PADDING_MASKS[name]:
        if hidden in inputs:
            inputs[hidden] = np.where(keep[..., None], inputs[hidden], np.float32(value))
    for got, want in zip(flat_outputs(layer(**inputs)), wants, strict=True):
        rows = keep if got.ndim == 3 else ...  # pooled: no row is padding's
        np.testing.assert_array_equal(got[rows], want[rows])


@each_case
def test_keras_mask_goes_on_where_positions_do(rng, case):
    inputs = {name: x for name, x in case.inputs(rng).items() if name not in PADDING_MASKS}
    first = next(iter(case.floats), None)
    if first is None or not case.layer().supports_masking:
        pytest.skip("makes its mask from ids, or takes none")
    mask = np.arange(inputs[first].shape[1]) < np.array([[5], [3], [1]])
    x = keras.layers.Masking(mask_value=7.0)(
        np.where(mask[..., None], inputs[first], np.float32(7.0))
    )
    for output in keras.tree.flatten(case.layer()(**{**inputs, first: x})):
        if len(output.shape) == 3:  # (batch, length, features)
            np.testing.assert_array_equal(ops.convert_to_numpy(keras_mask(output)), mask)
        else:
            assert keras_mask(output) is None


@tensorflow_only
@each_case
@pytest.mark.parametrize("target", ["tflite", "saved_model"])
def test_export_is_verified(rng, case, target, tmp_path):
    from keras_addnorm import export

    symbolic = case.symbolic()
    layer = case.layer()
    outputs = keras.tree.flatten(layer(**symbolic))
    model = keras.Model(symbolic, {f"output_{i}": x for i, x in enumerate(outputs)})
    randomize(layer, rng)
    to_file = export.to_tflite if target == "tflite" else export.to_saved_model
    report = to_file(model, tmp_path / "model.tflite")
    assert set(report.verification) == set(model.output)
    for difference in report.verification.values():
        # Some ten float32 products in another order, on values of a few units.
        assert difference.max_abs_error <= 1e-5 * max(1.0, difference.max_abs_value)


@each_case
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_has_no_nan(rng, case, dtype):
    inputs = case.inputs(rng)
    layer = case.layer(dtype=dtype)
    layer(**inputs)
    randomize(layer, rng)
    for training in (False, True):
        kwargs = {"training": training} if layer._call_has_training_arg else {}
        for output in flat_outputs(layer(**inputs, **kwargs)):
            assert np.isfinite(output).all()


@each_case
def test_dtype_name_and_trainable_are_arguments(case):
    layer = case.layer(dtype="mixed_float16", name="mine", trainable=False)
    assert (layer.dtype_policy.name, layer.name, layer.trainable) == (
        "mixed_float16",
        "mine",
        False,
    )
