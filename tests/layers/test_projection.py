"""Projection: values, the statistics of its norm, errors."""

import numpy as np
import pytest

from keras_addnorm.layers import Projection
from tests import reference
from tests.common import keras_mask, randomize, to_numpy, weights_of, with_keras_mask

# Sums of 8 products of size 1, normalized over 4 features.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("norm", ["none", "affine", "layer_norm"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_values(rng, norm, use_bias):
    layer = Projection(4, norm, 1e-3, use_bias=use_bias)
    x = rng.normal(size=(2, 5, 8)).astype("float32")
    layer.build(x.shape)
    randomize(layer, rng)
    weights = weights_of(layer)
    assert ("dense/bias" in weights) == use_bias
    want = reference.projection(weights, x, norm, 1e-3)
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


@pytest.mark.parametrize("attached", [False, True])
def test_padding_stays_out_of_the_statistics(rng, attached):
    x = rng.normal(size=(2, 5, 8)).astype("float32")
    mask = np.arange(5) < np.array([[5], [2]])
    outcomes = []
    for content in (0.0, 9.0):
        layer = Projection(4, "power_norm", kernel_initializer="ones")
        data = np.where(mask[..., None], x, np.float32(content))
        if attached:
            output = layer(with_keras_mask(data, mask), training=True)
            np.testing.assert_array_equal(keras_mask(output), mask)
        else:
            output = layer(data, mask=mask, training=True)
        outcomes.append((to_numpy(layer.norm_layer.moving_square), to_numpy(output)[mask]))
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"output_dim": 0}, "Projection: `output_dim` must be.*Pass a positive int"),
        ({"output_dim": 4, "norm": "batch"}, "Projection: `norm` must be one of"),
        ({"output_dim": 4, "epsilon": 0.0}, "Projection: `epsilon` must be above 0"),
        ({"output_dim": 4, "units": 4}, "Projection has no argument `units`"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Projection(**kwargs)


def test_mask_of_the_wrong_rank_is_refused():
    with pytest.raises(ValueError, match=r"Projection: `mask` must have .*Reshape it"):
        Projection(4, "batch_norm")(np.ones((2, 5, 8), "float32"), mask=np.ones((2,), "int32"))
