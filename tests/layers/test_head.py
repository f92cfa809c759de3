"""Head: values by hand, hidden layer, dropout, precision, integer weights, errors."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import Head
from tests import reference
from tests.common import randomize, to_numpy, weights_of

# Two matrix products of 8 terms and a norm, in float32.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
VARIANTS = {
    "linear": {},
    "no bias": {"use_bias": False},
    "hidden": {"hidden_dim": 6},
    "relu": {"hidden_dim": 8, "activation": "relu", "use_bias": ["dense"]},
    "normed": {"hidden_dim": 6, "activation": "gelu", "norm": "layer_norm", "epsilon": 1e-2},
    "modern": {
        "hidden_dim": 8,
        "activation": "gelu",
        "norm": "layer_norm_no_bias",
        "use_bias": ["output"],
    },
    "hidden only": {"output_dim": None, "hidden_dim": 4, "norm": "rms_norm"},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (2, 3, 4, 8)])
def test_values(rng, name, shape):
    kwargs = {"output_dim": 3, **VARIANTS[name]}
    layer, x = Head(**kwargs, name="head"), rng.normal(size=shape).astype("float32")
    layer.build(shape)
    randomize(layer, rng)
    weights = weights_of(layer)
    want = reference.head(
        weights,
        x.astype("float64"),
        kwargs.get("activation", "tanh"),
        kwargs.get("norm", "none"),
        kwargs.get("epsilon", 1e-5),
    )
    got = layer(x)
    assert layer.compute_output_shape(shape) == got.shape
    np.testing.assert_allclose(to_numpy(got), want, **TOLERANCE)
    use_bias = kwargs.get("use_bias", True)
    names = ["dense", "output"] if use_bias is True else use_bias or []
    assert {f"{n}/bias" for n in names} & set(weights) == {w for w in weights if "bias" in w}


def test_paths_of_the_weights():
    layer = Head(2, hidden_dim=4, norm="layer_norm", name="head")
    layer.build((None, 8))
    assert [w.path for w in layer.weights] == [
        *("head/dense/kernel", "head/dense/bias", "head/norm/gamma", "head/norm/beta"),
        *("head/output/kernel", "head/output/bias"),
    ]


@pytest.mark.parametrize("place", ["dropout", "input_dropout"])
def test_dropout_is_before_the_last_or_before_the_hidden_layer(rng, place):
    x = np.ones((64, 32), "float32")
    layer = Head(None if place == "input_dropout" else 64, hidden_dim=64, **{place: 0.5})
    layer(x)
    dense = layer.dense if place == "input_dropout" else layer.output_dense
    dense.kernel.assign(np.eye(*dense.kernel.shape))
    if place == "dropout":
        layer.dense.kernel.assign(0 * layer.dense.kernel)
        layer.dense.bias.assign(np.ones(64))
    kept = to_numpy(layer(x, training=True)) != 0
    width = 32 if place == "input_dropout" else 64
    # 2048 or more coins: 0.5 with a deviation of 0.011.
    assert abs(kept[:, :width].mean() - 0.5) < 0.06
    assert (to_numpy(layer(x)) != 0)[:, :width].all()


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("hidden_dim", [None, 8])
def test_logits_are_float32_in_mixed_precision(rng, dtype, hidden_dim):
    layer = Head(5, hidden_dim=hidden_dim, dtype=dtype)
    x = keras.ops.cast(rng.normal(size=(4, 8)), layer.compute_dtype)
    output = layer(x)
    assert layer(keras.Input((8,), dtype=layer.compute_dtype)).dtype == "float32"
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    randomize(layer, rng)
    if hidden_dim is None:  # Not rounded: exact in the product of the rounded inputs.
        want = reference.head(weights_of(layer), to_numpy(x).astype("float64"))
        np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


def test_a_policy_map_decides(rng):
    policies = {"head/output": keras.DTypePolicy("bfloat16")}
    mixed = keras.DTypePolicy("mixed_bfloat16")
    layer = Head(
        3, hidden_dim=4, name="head", dtype=keras.dtype_policies.DTypePolicyMap(mixed, policies)
    )
    output = layer(rng.normal(size=(2, 8)))
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert [w.dtype for w in layer.weights] == ["float32", "float32", "bfloat16", "bfloat16"]


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize(("mode", "dtype"), [("int8", "mixed_bfloat16"), ("int4", "float32")])
def test_quantized_head_is_saved_bit_equal(rng, mode, dtype, tmp_path):
    inputs = keras.Input((8,))
    layer = Head(3, hidden_dim=6, norm="layer_norm", dtype=dtype)
    model = keras.Model(inputs, layer(inputs))
    randomize(layer, rng)
    x = rng.normal(size=(16, 8)).astype("float32")
    exact = to_numpy(model(x))
    model.quantize(mode)
    assert sum(x.quantization_mode == mode for x in model._flatten_layers()) == 2
    want = to_numpy(model(x))
    # Kernels of 255 or 15 steps, in two layers; unrelated values correlate by 0.
    assert np.corrcoef(want.ravel(), exact.ravel())[0, 1] > (0.999 if mode == "int8" else 0.95)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [(w.path, w.dtype) for w in loaded.weights] == [(w.path, w.dtype) for w in model.weights]
    np.testing.assert_array_equal(to_numpy(loaded(x)), want)


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"output_dim": 0}, "output_dim", "whole number from 1"),
        ({"hidden_dim": -1}, "hidden_dim", "whole number from 1"),
        ({"hidden_dim": 4, "activation": "gleu"}, "activation", "'gelu'"),
        ({"hidden_dim": 4, "norm": "batch_norm"}, "norm", "Pass for instance 'layer_norm'"),
        ({"hidden_dim": 4, "norm": "layrnorm"}, "norm", "'layer_norm'"),
        ({"dropout": 1.0}, "dropout", "0.1"),
        ({"norm": "layer_norm"}, "norm", "Pass a `hidden_dim`"),
        ({"input_dropout": 0.1}, "input_dropout", "Pass a `hidden_dim`"),
        ({"output_dim": None}, "output_dim", "Pass a `hidden_dim`"),
        ({"use_bias": ["gate"]}, "use_bias", "dense, output"),
        ({"hiden_dim": 4}, "hiden_dim", "Did you mean `hidden_dim`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError, match="Head") as error:
        Head(**{"output_dim": 2, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)
