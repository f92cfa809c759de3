"""Dropout: the share, scale and independence of what is dropped, on every backend the same."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addnorm.layers import Dropout
from keras_addnorm.layers.dropout import keep_mask
from tests.common import to_numpy


def mask(shape=(500, 500), seed=(7, 0), rate=0.1):
    seed = ops.convert_to_tensor(np.array(seed, "int64").astype("int32"))
    return np.asarray(ops.convert_to_numpy(keep_mask(shape, seed, rate)))


def deviations(a, b):
    """The correlation of two masks, in its standard deviations if they are independent."""
    return np.corrcoef(a.ravel(), b.ravel())[0, 1] * np.sqrt(a.size)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_share(rate):
    kept = np.stack([mask(seed=(7, step), rate=rate) for step in range(4)])
    deviation = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs((1 - kept).mean() - rate) < 4 * deviation
    # Shares of rows and columns spread as those of independent elements do.
    for axis in (1, 2):
        spread = kept.mean(axis).std() / np.sqrt(rate * (1 - rate) / 500)
        assert 0.93 < spread < 1.07


def test_masks_of_other_steps_seeds_and_places_are_independent():
    kept = mask()
    found = [deviations(kept, mask(seed=seed)) for seed in [(7, 1), (7, 2), (8, 0), (0, 7)]]
    for lag in (1, 2, 3, 4, 8, 16, 64, 128, 256):
        found += [deviations(kept[lag:], kept[:-lag]), deviations(kept[:, lag:], kept[:, :-lag])]
    assert np.abs(found).max() < 4.5  # of 22 values at random, one in 10,000 runs is larger
    assert 0.5 < np.std(found) < 1.6


def test_rows_and_columns_do_not_add_up():
    """Four corners of a rectangle are independent, although rows and columns are hashed apart."""
    x = mask() - 0.9
    corners = x[::2, ::2] * x[1::2, ::2] * x[::2, 1::2] * x[1::2, 1::2]
    assert abs(corners.mean()) < 4.5 * corners.std() / np.sqrt(corners.size)
    power = np.abs(np.fft.fft2(x - x.mean())) ** 2 / x.size / x.var()
    assert power.max() < 22  # exponential values: the largest of 250,000 is 12.4 on average


def lowbias32(word):
    word = ((word ^ word >> 16) * 0x7FEB352D) % 2**32
    word = ((word ^ word >> 15) * 0x846CA68B) % 2**32
    return word ^ word >> 16


def test_the_mask_is_the_formula():
    """In Python's unbounded integers, one element at a time."""
    rows, columns, (seed, step) = 3, 12, (1234, 5)
    key = lowbias32((lowbias32(seed) + step) % 2**32)
    want = np.zeros((rows, columns), bool)
    for i, j in np.ndindex(rows, columns):
        column = lowbias32(j ^ lowbias32((key + 0x9E3779B9) % 2**32))
        word = (lowbias32((i + key) % 2**32) + column) * 0x7FEB352D % 2**32
        word = (word ^ word >> 15) * 0x846CA68B % 2**32
        want[i, j] = (word + 2**31) % 2**32 >= 0.5 * 2**32  # int32 counts from -2^31
    np.testing.assert_array_equal(mask((rows, columns), (seed, step), 0.5), want)
    assert ["".join(map(str, row.astype(int))) for row in want] == [
        "111100100010",
        "000110101111",
        "100001010100",
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_kept_elements_are_scaled(rng, dtype):
    x = rng.normal(size=(4, 5, 6)).astype("float32")
    layer = Dropout(0.25, seed=3, dtype=dtype)
    output = layer(x, training=True)
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    want = to_numpy(ops.cast(x, dtype)) / 0.75 * mask(x.shape, (3, 0), 0.25)
    # A backend may divide or multiply by the reciprocal: two roundings.
    rtol = {"float32": 2**-22, "float16": 2**-9, "bfloat16": 2**-6}[dtype]
    np.testing.assert_allclose(to_numpy(output), want, rtol=rtol)
    assert not np.array_equal(to_numpy(layer(x, training=True)), to_numpy(output))


@pytest.mark.parametrize("kwargs", [{"rate": 0.5, "training": False}, {"rate": 0.0}])
def test_does_nothing(rng, kwargs):
    x = rng.normal(size=(4, 6)).astype("float32")
    layer = Dropout(kwargs["rate"])
    np.testing.assert_array_equal(to_numpy(layer(x, training=kwargs.get("training", True))), x)


def test_noise_shape(rng):
    x = np.ones((64, 3, 5), "float32")
    output = to_numpy(Dropout(0.5, noise_shape=(None, 1, 1))(x, training=True))
    assert set(np.unique(output)) == {0.0, 2.0}
    np.testing.assert_array_equal(output, np.broadcast_to(output[:, :1, :1], x.shape))
    assert 15 < (output[:, 0, 0] == 0).sum() < 49  # 32, and four deviations


def test_a_compiled_step_of_unknown_batch(rng):
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, Dropout(0.5, seed=1)(inputs))
    model.compile("sgd", "mse")
    x = np.ones((8, 3, 4), "float32")
    first = to_numpy(model(x, training=True))
    np.testing.assert_array_equal(first, 2.0 * mask(x.shape, (1, 0), 0.5))
    model.train_on_batch(x, x)  # steps the seed on
    np.testing.assert_array_equal(
        to_numpy(model(x, training=True)), 2.0 * mask(x.shape, (1, 2), 0.5)
    )


def test_a_short_noise_shape_broadcasts():
    x = np.ones((64, 3, 5), "float32")
    output = to_numpy(Dropout(0.5, noise_shape=(3, 1))(x, training=True))
    np.testing.assert_array_equal(output, np.broadcast_to(output[:1, :, :1], x.shape))


@pytest.mark.parametrize("rate", [0.0, 1 - 1e-12])
def test_extreme_rates(rate):
    output = to_numpy(Dropout(rate)(np.ones((100, 10), "float32"), training=True))
    np.testing.assert_array_equal(output, 1.0 if rate == 0.0 else 0.0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rate": 1.0}, "`rate` is the share of units to drop"),
        ({"rate": -0.1}, "Pass for instance 0.1"),
        ({"rate": 0.1, "sed": 1}, "Did you mean `seed`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, message):
    with pytest.raises(ValueError) as error:
        Dropout(**kwargs)
    assert message in str(error.value)
