"""Position encodings: the table, its rounding, learned rows, masks, lengths, errors."""

import importlib

import keras
import numpy as np
import pytest

from keras_addnorm.layers import (
    AddNorm,
    LearnedPositionEncoding,
    MultiHeadAttention,
    SinusoidalPositionEncoding,
)
from keras_addnorm.layers.position_encoding import sinusoids
from tests import reference
from tests.backends import tensorflow_only, traced
from tests.common import keras_mask, randomize, to_numpy

BOTH = [SinusoidalPositionEncoding, LearnedPositionEncoding]


def zeros(length, features=8, batch=2):
    return np.zeros((batch, length, features), "float32")


@pytest.mark.parametrize("features", [1, 2, 7, 64])
@pytest.mark.parametrize("max_wavelength", [10000.0, 100.0])
def test_table(features, max_wavelength):
    got = sinusoids(300, features, max_wavelength)
    assert got.dtype == "float64"
    # Angles of up to 300, known to 300 * 1.1e-16 in float64, by two ways to take the power.
    want = reference.sinusoids(300, features, max_wavelength)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def rounded_once(values, dtype):
    """float64 values rounded to nearest, ties to even, in one step."""
    if dtype != "bfloat16":
        return values.astype(dtype).astype("float64")
    mantissa, exponent = np.frexp(values)  # bfloat16 has 8 significant bits
    return np.ldexp(np.round(mantissa * 2**8) / 2**8, exponent)


@pytest.mark.parametrize("shift", [1, 7, 100])
def test_a_shift_is_a_rotation(shift):
    """Section 3.5: PE[pos + k] is one linear function of PE[pos], a rotation of each pair."""
    layer = SinusoidalPositionEncoding(max_sequence_length=512)
    table = to_numpy(layer(np.zeros((1, 512, 64), "float32")))[0].astype("float64")
    angles = shift * 10000.0 ** (-np.arange(0, 64, 2) / 64)
    sine, cosine = table[:-shift, 0::2], table[:-shift, 1::2]
    shifted = np.empty((512 - shift, 64))
    shifted[:, 0::2] = sine * np.cos(angles) + cosine * np.sin(angles)
    shifted[:, 1::2] = cosine * np.cos(angles) - sine * np.sin(angles)
    # Each value of the table is rounded once to float32, by at most 6e-8.
    np.testing.assert_allclose(table[shift:], shifted, rtol=0, atol=2.4e-7)


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [
        ("float32", "float32"),
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("mixed_float16", "float16"),
        ("mixed_bfloat16", "bfloat16"),
    ],
)
def test_the_layer_is_the_table_rounded_once(policy, dtype):
    layer = SinusoidalPositionEncoding(max_sequence_length=512, dtype=policy)
    output = layer(zeros(512, 64))
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    want = rounded_once(sinusoids(512, 64), dtype)
    for row in to_numpy(output).astype("float64"):
        np.testing.assert_array_equal(row, want)


def test_wavelength_is_used():
    got = to_numpy(SinusoidalPositionEncoding(max_wavelength=50.0)(zeros(4)))
    want = reference.sinusoids(4, 8, 50.0)
    np.testing.assert_allclose(got[0], want, rtol=0, atol=1e-7)  # one rounding to float32


def test_only_the_shape_of_the_input_matters(rng):
    layer = SinusoidalPositionEncoding()
    x = rng.normal(size=(2, 5, 8))
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(layer(zeros(5))))


@pytest.mark.parametrize("length", [1, 5, 6])
def test_learned_rows(rng, length):
    layer = LearnedPositionEncoding(max_sequence_length=6)
    layer.build((None, None, 8))
    randomize(layer, rng)
    table = to_numpy(layer.position_embeddings.value)
    assert table.shape == (6, 8)
    got = to_numpy(layer(zeros(length)))
    np.testing.assert_array_equal(got, np.stack([table[:length]] * 2))


@pytest.mark.parametrize("length", [1, 6])
def test_learned_rows_start_at_the_offset(length):
    layer = LearnedPositionEncoding(max_sequence_length=6, position_offset=2)
    layer.build((None, None, 8))
    layer.position_embeddings.assign(np.arange(64.0).reshape(8, 8))
    got = to_numpy(layer(zeros(length)))
    for row in got:
        np.testing.assert_array_equal(row, np.arange(16.0, 16.0 + 8 * length).reshape(length, 8))
    with pytest.raises(ValueError, match="positions 0 to 5.*length 7"):
        layer(zeros(7))


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("length", [1, 3, 6])
def test_dynamic_length_is_the_static_one(cls, length):
    layer = cls(max_sequence_length=6)
    want = to_numpy(layer(zeros(length)))
    call = traced(layer, ((None, None, 8), "float32"))
    np.testing.assert_array_equal(to_numpy(call(zeros(length))), want)


@pytest.mark.parametrize("cls", BOTH)
def test_the_longest_sequence_is_the_limit(cls):
    layer = cls(max_sequence_length=6)
    assert layer(zeros(6)).shape == (2, 6, 8)
    with pytest.raises(ValueError, match="positions 0 to 5.*length 7.*max_sequence_length=7"):
        layer(zeros(7))


@tensorflow_only
@pytest.mark.parametrize("cls", BOTH)
def test_a_longer_sequence_of_unknown_length_fails_too(cls):
    layer = cls(max_sequence_length=6)
    layer(zeros(6))
    call = traced(layer, ((None, None, 8), "float32"))
    error = importlib.import_module("tensorflow").errors.InvalidArgumentError
    with pytest.raises(error, match=r"\[1,6,8\].*\[2,7,8\]"):
        call(zeros(7))


@pytest.mark.parametrize("cls", BOTH)
def test_mask_is_kept_and_the_sum_of_add_keeps_it(cls):
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    x = keras.layers.Embedding(5, 8, mask_zero=True)(ids)
    positions = cls()(x)
    np.testing.assert_array_equal(keras_mask(positions), ids != 0)
    np.testing.assert_array_equal(keras_mask(keras.layers.Add()([x, positions])), ids != 0)
    np.testing.assert_array_equal(keras_mask(AddNorm("none")(x, positions)), ids != 0)


@pytest.mark.parametrize("cls", BOTH)
def test_mask_reaches_the_attention_of_a_functional_model(cls):
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 8, mask_zero=True)(inputs)
    x = keras.layers.Add()([x, cls()(x)])
    _, scores = MultiHeadAttention(2)(x, return_attention_scores=True)
    scores = keras.Model(inputs, scores).predict(ids, verbose=0)
    np.testing.assert_array_equal(scores[0, :, :, 2], 0.0)
    np.testing.assert_array_equal(scores[1, :, :, 1:], 0.0)
    # Each real query's scores sum to 1 up to a few units of 6e-8.
    np.testing.assert_allclose(scores.sum(-1)[:, 0], [[1, 1, 0], [1, 0, 0]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("shape", [(2, 8), (2, 3, 5, 8), (2, 5, None)])
def test_rank_and_features_are_checked(cls, shape):
    with pytest.raises(ValueError, match=rf"{cls.__name__}: `x` must have shape \(batch, length"):
        cls().build(shape)


@pytest.mark.parametrize(
    ("cls", "kwargs", "name", "fix"),
    [
        (BOTH[0], {"max_wavelength": 0.0}, "max_wavelength", "Pass a positive float"),
        (BOTH[0], {"max_wavelength": -1.0}, "max_wavelength", "Pass a positive float"),
        (BOTH[0], {"max_wavelength": float("nan")}, "max_wavelength", "finite"),
        (BOTH[0], {"max_wavelength": True}, "max_wavelength", "Pass a float"),
        (BOTH[0], {"max_sequence_length": 0}, "max_sequence_length", "Pass a positive int"),
        (BOTH[1], {"max_sequence_length": -3}, "max_sequence_length", "Pass a positive int"),
        (BOTH[1], {"max_sequence_length": 5.0}, "max_sequence_length", "Pass a positive int"),
        (BOTH[1], {"max_sequence_length": True}, "max_sequence_length", "Pass a positive int"),
        (BOTH[1], {"position_offset": -1}, "position_offset", "a whole number from 0"),
        (BOTH[0], {"max_length": 5}, "max_length", "Did you mean `max_wavelength`?"),
        (BOTH[1], {"max_length": 5}, "max_length", "Its arguments are: max_sequence_length"),
    ],
)
def test_bad_argument_is_named_with_its_fix(cls, kwargs, name, fix):
    with pytest.raises(ValueError, match=cls.__name__) as error:
        cls(**kwargs)
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)
