"""SequenceConvolution: values, padding, masks, errors."""

import numpy as np
import pytest

from keras_addnorm.layers import SequenceConvolution
from tests import reference
from tests.backends import traced
from tests.common import keras_mask, randomize, to_numpy, weights_of, with_keras_mask

# Sums of 40 products of size 1 in float32, in another order.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
MASK = np.arange(6) < np.array([[6], [4], [1]])


def built(rng, **options):
    layer = SequenceConvolution(**options)
    layer.build((None, None, 8))
    return randomize(layer, rng)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel_size": 1, "activation": "linear"},
        {"kernel_size": 5, "activation": "gelu", "groups": 4},
        {"kernel_size": 15, "activation": "relu", "groups": 8},
    ],
    ids=str,
)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "padded"])
@pytest.mark.parametrize("guard_padding", [False, True])
def test_values(rng, options, mask, guard_padding):
    x = rng.normal(size=(3, 6, 8)).astype("float32")
    layer = built(rng, guard_padding=guard_padding, **options)
    arguments = {name: options[name] for name in ("activation", "groups") if name in options}
    want = reference.sequence_convolution(weights_of(layer), x, mask, **arguments)
    np.testing.assert_allclose(to_numpy(layer(x, mask=mask)), want, **TOLERANCE)


def test_keras_mask_is_used_and_kept(rng):
    x = rng.normal(size=(3, 6, 8)).astype("float32")
    layer = built(rng)
    output = layer(with_keras_mask(x, MASK))
    np.testing.assert_array_equal(to_numpy(output), to_numpy(layer(x, mask=MASK)))
    np.testing.assert_array_equal(keras_mask(output), MASK)


def test_unknown_batch_and_length(rng):
    x = rng.normal(size=(3, 6, 8)).astype("float32")
    layer = built(rng)
    graph = traced(
        lambda x, m: layer(x, mask=m), ((None, None, 8), "float32"), ((None, None), "float32")
    )
    for length in (6, 1):
        inputs = x[:, :length], MASK[:, :length].astype("float32")
        want = layer(inputs[0], mask=inputs[1])
        np.testing.assert_allclose(to_numpy(graph(*inputs)), to_numpy(want), **TOLERANCE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SequenceConvolution(4), "`kernel_size` must be odd.*kernel_size=4"),
        (lambda: SequenceConvolution(0), "`kernel_size` must be a whole number from 1 to 999"),
        (lambda: SequenceConvolution(1001), "`kernel_size` must be a whole number from 1 to 999"),
        (lambda: SequenceConvolution(groups=0), "`groups` must be a whole number"),
        (lambda: SequenceConvolution(groups=3).build((None, 5, 8)), "`features` must be divisible"),
        (lambda: SequenceConvolution(activation="x"), "`activation` must be one of"),
        (lambda: SequenceConvolution(dropout=1), "`dropout` is the share"),
        (lambda: SequenceConvolution(use_bias=1), "`use_bias` must be True or False"),
        (lambda: SequenceConvolution(guard_padding=None), "`guard_padding` must be True or False"),
        (lambda: SequenceConvolution(kernel=3), "has no argument `kernel`"),
        (lambda: SequenceConvolution().build((2, 8)), r"`x` must have shape .*Reshape it first"),
        (
            lambda: SequenceConvolution()(np.ones((2, 3, 8)), mask=np.ones((2, 4))),
            r"`mask` must have shape \(batch, length\), here \(2, 3\)",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
