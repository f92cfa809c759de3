"""FeedForward: values, dropout, masks, half precision, errors."""

import json

import keras
import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.layers import FeedForward
from tests import reference
from tests.backends import tensorflow_only
from tests.common import keras_mask, randomize, to_numpy, weights_of

# Dot products of 16 float32 numbers of size 1: a few units of 6e-8 in sums of up to 10.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def data(rng, shape=(2, 5, 8)):
    return rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "tanh"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("output_dim", [None, 3])
def test_values(rng, activation, use_bias, output_dim):
    x = data(rng)
    layer = FeedForward(16, activation, output_dim=output_dim, use_bias=use_bias)
    layer(x)
    randomize(layer, rng)
    weights = weights_of(layer)
    assert len(weights) == (4 if use_bias else 2)
    want = reference.feed_forward(weights, x, activation)
    assert want.shape == (2, 5, output_dim or 8)
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


@pytest.mark.parametrize("activation", ["gelu", "silu", "sigmoid"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_gated_values(rng, activation, use_bias, fused):
    x = data(rng)
    layer = FeedForward(16, activation, output_dim=3, use_bias=use_bias, gated=True, fused=fused)
    layer(x)
    randomize(layer, rng)
    weights = weights_of(layer)
    names = ("intermediate", "output") if fused else ("gate", "intermediate", "output")
    parts = ("kernel", "bias") if use_bias else ("kernel",)
    assert set(weights) == {f"{name}/{part}" for name in names for part in parts}
    assert weights["intermediate/kernel"].shape == (8, 32 if fused else 16)
    want = reference.feed_forward(weights, x, activation, fused)
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


def test_fused_is_split_with_the_kernels_side_by_side(rng):
    x = data(rng)
    split = FeedForward(16, "silu", gated=True)
    fused = FeedForward(16, "silu", gated=True, fused=True)
    split(x), fused(x)
    randomize(split, rng)
    for part in ("kernel", "bias"):
        halves = [getattr(d, part).value for d in (split.gate_dense, split.intermediate_dense)]
        getattr(fused.intermediate_dense, part).assign(keras.ops.concatenate(halves, axis=-1))
        getattr(fused.output_dense, part).assign(getattr(split.output_dense, part))
    # The same dot products; a wider matrix may be multiplied in another order.
    np.testing.assert_allclose(to_numpy(fused(x)), to_numpy(split(x)), rtol=1e-6, atol=1e-6)


def test_dropout_is_after_the_gate():
    x = np.ones((4, 50, 8), "float32")
    layer = FeedForward(8, "linear", 0.5, kernel_initializer="identity", gated=True)
    np.testing.assert_array_equal(to_numpy(layer(x)), x)
    # Dropped before the product, gate and features would meet with 0, 2 or 4.
    assert set(np.unique(to_numpy(layer(x, training=True)))) == {0.0, 2.0}


@tensorflow_only
@pytest.mark.parametrize("kwargs", [{}, {"gated": True}, {"gated": True, "fused": True}])
@pytest.mark.parametrize("length", [5, None])
def test_export_is_one_partition(rng, kwargs, length, tmp_path):
    x = keras.Input((None, 32), name="x")
    layer = FeedForward(64, "silu", **kwargs)
    model = keras.Model(x, layer(x))
    randomize(layer, rng)
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=length)
    assert report.xnnpack_partitions == 1
    assert not any(op.startswith(("CUSTOM", "SELECT")) for op in report.operators)


@pytest.mark.parametrize("kwargs", [{}, {"gated": True}, {"gated": True, "fused": True}])
def test_quantized_model_is_saved_bit_equal(rng, kwargs, tmp_path):
    x = keras.Input((5, 32))
    layer = FeedForward(64, "silu", name="ffn", **kwargs)
    model = keras.Model(x, layer(x))
    sample = data(rng, (2, 5, 32))
    exact = to_numpy(model(sample))
    model.quantize("int8")
    got = to_numpy(model(sample))
    # Weights and activations have steps of 1/127 of their largest value; unrelated outputs would
    # correlate by 0 with a deviation of 1 / sqrt(320) = 0.06.
    assert np.corrcoef(got.ravel(), exact.ravel())[0, 1] > 0.99
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.dtype for w in loaded.weights] == [w.dtype for w in model.weights]
    np.testing.assert_array_equal(to_numpy(loaded(sample)), got)


def test_gelu_is_the_exact_one():
    exact, approximate = (reference.ACTIVATIONS[n](np.array(2.5)) for n in ("gelu", "gelu_tanh"))
    assert abs(exact - approximate) > 1e-4  # so that 1e-6 tells them apart
    layer = FeedForward(1, "gelu", kernel_initializer="ones")
    assert to_numpy(layer(np.array([[2.5]]))) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (2, 3, 4, 8)])
def test_any_rank(rng, shape):
    x = data(rng, shape)
    layer = FeedForward(16)
    layer(x)
    randomize(layer, rng)
    got = to_numpy(layer(x))
    np.testing.assert_allclose(got, reference.feed_forward(weights_of(layer), x), **TOLERANCE)


def test_callable_activation(rng):
    x = data(rng)
    layer = FeedForward(16, keras.ops.negative)
    layer(x)
    randomize(layer, rng)
    weights = weights_of(layer)
    hidden = -reference.dense(reference.below(weights, "intermediate"), x)
    want = reference.dense(reference.below(weights, "output"), hidden)
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "linear"])
def test_activation_survives_json(rng, activation):
    x = data(rng)
    layer = FeedForward(16, activation, kernel_initializer=keras.initializers.GlorotUniform(3))
    revived = FeedForward.from_config(json.loads(json.dumps(layer.get_config())))
    assert revived.activation is layer.activation
    np.testing.assert_array_equal(to_numpy(revived(x)), to_numpy(layer(x)))


def test_dropout_is_between_the_two_layers():
    x = np.ones((4, 50, 8), "float32")
    layer = FeedForward(8, dropout=0.5, kernel_initializer="identity", bias_initializer="zeros")
    np.testing.assert_array_equal(to_numpy(layer(x)), x)
    got = to_numpy(layer(x, training=True))
    assert set(np.unique(got)) == {0.0, 2.0}
    # 1600 fair coins: the mean strays by 0.025 (one deviation), so 0.2 is eight of them.
    assert abs(got.mean() - 1.0) < 0.2


def test_mask_survives():
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    x = keras.layers.Embedding(5, 8, mask_zero=True)(ids)
    np.testing.assert_array_equal(keras_mask(FeedForward(16)(x)), ids != 0)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(rng, dtype):
    x = data(rng)
    layer = FeedForward(16, "gelu", dtype=dtype)
    output = layer(x)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    want = reference.feed_forward(weights_of(layer), x, "gelu")
    # Inputs, kernels, hidden and output values of up to 4 are each rounded by 2^-9 (bfloat16)
    # or 2^-12 (float16); the errors of 16 products add up like a random walk.
    atol = 0.06 if "bfloat16" in dtype else 0.008
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)


def test_the_two_kernels_start_differently():
    layer = FeedForward(8, kernel_initializer=keras.initializers.RandomNormal())
    layer.build((None, 8))
    first, second = layer.intermediate_dense.kernel, layer.output_dense.kernel
    assert not np.array_equal(to_numpy(first.value), to_numpy(second.value))


def test_biases_by_name(rng):
    layer = FeedForward(8, gated=True, use_bias=["output"])
    layer(rng.normal(size=(2, 3, 4)))
    biases = [w.path for w in layer.weights if w.path.endswith("bias")]
    assert biases == [f"{layer.path}/output/bias"]
    assert layer.get_config()["use_bias"] == ["output"]


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"intermediate_dim": 0}, "intermediate_dim", "Pass a positive int"),
        ({"intermediate_dim": -4}, "intermediate_dim", "Pass a positive int"),
        ({"intermediate_dim": 4.0}, "intermediate_dim", "Pass a positive int"),
        ({"intermediate_dim": True}, "intermediate_dim", "Pass a positive int"),
        ({"intermediate_dim": None}, "intermediate_dim", "Pass a positive int"),
        ({"output_dim": 0}, "output_dim", "Pass a positive int"),
        ({"output_dim": "8"}, "output_dim", "Pass a positive int"),
        ({"dropout": 1.5}, "dropout", "Pass for instance 0.1"),
        ({"dropout": "a"}, "dropout", "Pass a float"),
        ({"activation": "rellu"}, "activation", "'gelu_tanh', "),
        ({"activation": 3}, "activation", "'gelu_tanh', "),
        ({"use_bias": ["query"]}, "use_bias", "gate, intermediate, output"),
        ({"fused": True}, "fused", "Pass gated=True"),
        ({"intermediate_dims": 4}, "intermediate_dims", "Did you mean `intermediate_dim`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError, match="FeedForward") as error:
        FeedForward(**{"intermediate_dim": 4, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)
