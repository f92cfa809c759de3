"""SequencePooling: values, empty sequences, masks, half precision, errors."""

import warnings

import keras
import numpy as np
import pytest

from keras_addnorm.layers import SequencePooling
from tests import reference
from tests.common import keras_mask, to_numpy

# A sum of at most 5 float32 numbers of size 1, a division and a square root.
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 1]])
KINDS = ["mean", "cls", "max", "last", "weighted_mean"]

EMPTY_IS_ZERO = [kind for kind in KINDS if kind != "cls"]


def data(rng):
    return rng.normal(size=(4, 5, 8)).astype("float32")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "bool", "float32"])
def test_values(rng, kind, normalize, dtype):
    x = data(rng)
    got = SequencePooling(kind, normalize)(x, padding_mask=MASK.astype(dtype))
    want = reference.pooling(x.astype("float64"), MASK, kind, normalize)
    np.testing.assert_allclose(to_numpy(got), want, **TOLERANCE)


@pytest.mark.parametrize("kind", EMPTY_IS_ZERO)
@pytest.mark.parametrize("normalize", [False, True])
def test_empty_sequence_pools_to_exactly_zero(rng, kind, normalize):
    got = to_numpy(SequencePooling(kind, normalize)(data(rng), padding_mask=MASK))
    np.testing.assert_array_equal(got[2], np.zeros(8))


@pytest.mark.parametrize("kind", EMPTY_IS_ZERO)
def test_content_of_padding_does_not_matter(rng, kind):
    x = data(rng)
    other = np.where(MASK[..., None] == 1, x, np.float32(1000.0))
    layer = SequencePooling(kind)
    np.testing.assert_array_equal(
        to_numpy(layer(x, padding_mask=MASK)), to_numpy(layer(other, padding_mask=MASK))
    )


@pytest.mark.parametrize("kind", EMPTY_IS_ZERO)
def test_skip_leaves_the_first_positions_out(rng, kind):
    x, later = data(rng), MASK * (np.arange(5) >= 2)
    got = SequencePooling(kind, skip=2)(x, padding_mask=MASK)
    np.testing.assert_array_equal(
        to_numpy(got), to_numpy(SequencePooling(kind)(x, padding_mask=later))
    )
    want = reference.pooling(x.astype("float64"), np.tile(later[1], (4, 1)), kind)
    np.testing.assert_allclose(to_numpy(SequencePooling(kind, skip=2)(x)), want, **TOLERANCE)


def test_cls_with_skip_is_the_token_behind(rng):
    x = data(rng)
    np.testing.assert_array_equal(to_numpy(SequencePooling("cls", skip=1)(x)), x[:, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_output_dim_truncates_and_then_normalizes(rng, kind, normalize):
    x = data(rng)
    layer = SequencePooling(kind, normalize, output_dim=3)
    got = to_numpy(layer(x, padding_mask=MASK))
    want = reference.pooling(x.astype("float64"), MASK, kind)[:, :3]
    if normalize:
        want /= np.maximum(np.linalg.norm(want, axis=-1, keepdims=True), 1e-12)
    assert layer.compute_output_shape(x.shape) == got.shape
    np.testing.assert_allclose(got, want, **TOLERANCE)


def test_output_dim_above_the_features_is_refused(rng):
    with pytest.raises(
        ValueError, match=r"output_dim=9, input of shape \(4, 5, 8\). Pass 8 or less"
    ):
        SequencePooling(output_dim=9)(data(rng))


def test_max_of_negative_values_ignores_padding():
    x = np.full((1, 3, 2), -5.0, "float32")
    x[0, 2] = 7.0
    got = SequencePooling("max")(x, padding_mask=[[1, 1, 0]])
    np.testing.assert_array_equal(to_numpy(got), [[-5.0, -5.0]])


def test_normalized_length_is_one_down_to_the_floor():
    x = np.array([[[3.0, 4.0]], [[3e-9, 4e-9]], [[0.0, 0.0]], [[3e-14, 4e-14]]], "float32")
    got = to_numpy(SequencePooling("mean", True)(x, padding_mask=np.ones((4, 1))))
    want = [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0], [0.03, 0.04]]
    np.testing.assert_allclose(got, want, **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(rng, kind, dtype):
    x = data(rng)
    layer = SequencePooling(kind, dtype=dtype)
    output = layer(x, padding_mask=MASK)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    want = reference.pooling(x.astype("float64"), MASK, kind)
    # Input and output of up to 4 are each rounded once: by 2^-9 (bfloat16), 2^-12 (float16).
    atol = 0.02 if "bfloat16" in dtype else 0.0025
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)


def test_half_precision_mean_of_a_long_sequence_is_summed_in_float32():
    x = np.full((1, 4096, 1), 100.0, "float32")  # the sum is beyond float16 (65504)
    got = SequencePooling("mean", dtype="float16")(x, padding_mask=np.ones((1, 4096)))
    np.testing.assert_array_equal(to_numpy(got), [[100.0]])


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_batch_and_length(rng, kind):
    x = data(rng)
    inputs = keras.Input((None, 8)), keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, SequencePooling(kind)(inputs[0], padding_mask=inputs[1]))
    assert model.output_shape == (None, 8)
    want = reference.pooling(x.astype("float64"), MASK, kind)
    np.testing.assert_allclose(model.predict([x, MASK], verbose=0), want, **TOLERANCE)


def test_keras_mask_ends_here_without_a_warning():
    ids = np.array([[1, 2, 0]])
    x = keras.layers.Embedding(5, 8, mask_zero=True)(ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pooled = SequencePooling()(x, padding_mask=ids != 0)
    assert keras_mask(pooled) is None


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"pooling": "sum"}, "pooling", "'mean', 'cls', 'max'"),
        ({"pooling": None}, "pooling", "'mean', 'cls', 'max'"),
        ({"skip": -1}, "skip", "whole number from 0"),
        ({"output_dim": 0}, "output_dim", "whole number from 1"),
        ({"normalise": True}, "normalise", "Did you mean `normalize`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError, match="SequencePooling") as error:
        SequencePooling(**kwargs)
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)


@pytest.mark.parametrize("pooling", EMPTY_IS_ZERO)
def test_keras_mask_and_padding_mask_combine(rng, pooling):
    x = rng.normal(size=(2, 4, 8)).astype("float32")
    attached = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    mask = np.array([[1, 1, 0, 1], [1, 0, 1, 1]])
    masked = keras.layers.Masking(99.0)(np.where(attached[..., None], x, np.float32(99.0)))
    layer = SequencePooling(pooling)
    want = to_numpy(layer(x, padding_mask=attached * mask))
    np.testing.assert_array_equal(to_numpy(layer(masked, padding_mask=mask)), want)
    want = to_numpy(layer(x, padding_mask=attached))
    np.testing.assert_array_equal(to_numpy(layer(masked)), want)


@pytest.mark.parametrize("pooling", KINDS)
def test_without_any_mask_all_positions_count(rng, pooling):
    x = rng.normal(size=(2, 4, 8)).astype("float32")
    layer = SequencePooling(pooling)
    want = to_numpy(layer(x, padding_mask=np.ones((2, 4))))
    np.testing.assert_allclose(to_numpy(layer(x)), want, rtol=1e-6, atol=1e-6)
