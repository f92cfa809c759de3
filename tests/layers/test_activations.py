"""The allow-list of activations: values, half precision, configs, export, errors."""

import json

import keras
import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.layers import FeedForward
from keras_addnorm.layers.activations import ACTIVATIONS, activation_config, get_activation
from tests import reference
from tests.backends import tensorflow_only
from tests.common import to_numpy

each_name = pytest.mark.parametrize("name", ACTIVATIONS)


@keras.saving.register_keras_serializable(package="test")
def half(x):
    return x / 2


def test_every_activation_has_a_reference():
    assert set(ACTIVATIONS) == set(reference.ACTIVATIONS)


@each_name
def test_values(name):
    x = np.linspace(-30.0, 30.0, 2001, dtype="float32")
    want = reference.ACTIVATIONS[name](x.astype("float64"))
    got = to_numpy(ACTIVATIONS[name](keras.ops.convert_to_tensor(x)))
    # A few float32 roundings of 6e-8. Near -5, GELU multiplies x by a small difference of two
    # numbers of size 1: an absolute error of 5 * 6e-8.
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@each_name
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_finite(name, dtype):
    limit = 200.0  # of which the square is still a float16
    x = keras.ops.cast(np.linspace(-limit, limit, 401), dtype)
    y = ACTIVATIONS[name](x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    assert np.isfinite(to_numpy(y)).all()


@each_name
def test_name_survives_json(name):
    function = get_activation("Owner", name)
    config = json.loads(json.dumps(activation_config(function)))
    assert config == name
    # What Keras itself writes, as files from before had it.
    for written in (config, keras.activations.serialize(function)):
        assert get_activation("Owner", written) is function


def test_registered_function_survives_json():
    assert get_activation("Owner", half) is half
    config = json.loads(json.dumps(activation_config(half)))
    assert get_activation("Owner", config) is half
    revived = FeedForward.from_config(FeedForward(4, half).get_config())
    assert revived.activation is half


@tensorflow_only
@each_name
def test_export_is_one_partition_and_right_far_out(name, tmp_path):
    """TFLite takes apart what it has no op for, softplus (in mish) into a logarithm of an
    exponential that overflows."""
    x = keras.Input((4, 32), name="x")
    dense = keras.layers.Dense(32, ACTIVATIONS[name], kernel_initializer="identity")
    report = export.to_tflite(keras.Model(x, dense(x)), tmp_path / "m.tflite")
    assert report.xnnpack_partitions == 1
    assert not any(op.startswith(("CUSTOM", "SELECT")) for op in report.operators)

    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(tmp_path / "m.tflite")).get_signature_runner("serving_default")
    sample = np.linspace(-120.0, 120.0, 128, dtype="float32").reshape(1, 4, 32)
    (got,) = runner(x=sample).values()
    want = reference.ACTIVATIONS[name](sample.astype("float64"))
    # The runtime's own polynomials for exp, tanh and erf: a few units of 6e-8, times |x|.
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize(
    "activation",
    [
        "rellu",
        "leaky_relu",
        "",
        None,
        3,
        ["relu"],
        {},
        {"class_name": "function", "config": "nobody>knows", "registered_name": "function"},
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "x"},
        {"class_name": "__lambda__", "config": {}},
    ],
)
def test_anything_else_is_refused_with_the_list(activation):
    with pytest.raises(ValueError, match="^Owner: `pooler` must be one of ") as error:
        get_activation("Owner", activation, "pooler")
    message = str(error.value)
    assert all(repr(name) in message for name in ACTIVATIONS)
    assert f"Received: pooler={activation!r}" in message
