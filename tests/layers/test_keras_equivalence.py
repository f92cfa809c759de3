"""MultiHeadAttention under every mask against Keras's attention layers with the same weights."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addnorm.layers import MultiHeadAttention
from tests.backends import gradients
from tests.common import randomize, to_numpy

# Both are float32 and sum some ten products of values around 1, in different orders.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
BATCH, QUERIES, KEYS = 3, 5, 7


def layers(rng, grouped, shapes):
    """One of Keras's layers with random weights, and ours with the same."""
    if grouped:
        theirs = keras.layers.GroupQueryAttention(4, 6, 2)
    else:
        theirs = keras.layers.MultiHeadAttention(4, 3, value_dim=5)
    theirs.build(*shapes)
    randomize(theirs, rng)
    return theirs, MultiHeadAttention.from_keras(theirs)


def mask(rng, *shape):
    """Random, with at least one 1 along the last axis: Keras attends to all where all is hidden."""
    keep = rng.integers(0, 2, size=shape)
    keep[..., 0] = 1
    return keep.astype(bool)


MASKS = {
    "none": lambda rng: {},
    "query": lambda rng: {"query_mask": mask(rng, BATCH, QUERIES)},
    "value": lambda rng: {"value_mask": mask(rng, BATCH, KEYS)},
    "key": lambda rng: {"key_mask": mask(rng, BATCH, KEYS)},
    "attention": lambda rng: {"attention_mask": mask(rng, BATCH, QUERIES, KEYS)},
    "causal": lambda rng: {"use_causal_mask": True},
    "all": lambda rng: {
        "query_mask": mask(rng, BATCH, QUERIES),
        "value_mask": mask(rng, BATCH, KEYS),
        "attention_mask": mask(rng, BATCH, QUERIES, KEYS),
        "use_causal_mask": True,
    },
}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_masks_mean_the_same(rng, grouped, name):
    query, value, key = (
        rng.normal(size=(BATCH, length, width)).astype("float32")
        for length, width in ((QUERIES, 8), (KEYS, 6), (KEYS, 9))
    )
    theirs, ours = layers(rng, grouped, [query.shape, value.shape, key.shape])
    kwargs = MASKS[name](rng)
    got, got_scores = ours(query, value, key, return_attention_scores=True, **kwargs)
    want, want_scores = theirs(query, value, key, return_attention_scores=True, **kwargs)
    # At a masked query Keras attends to everything, and ours to nothing.
    keep = kwargs.get("query_mask", np.ones((BATCH, QUERIES), bool))
    np.testing.assert_allclose(to_numpy(got)[keep], to_numpy(want)[keep], **TOLERANCE)
    scores = [np.moveaxis(to_numpy(x), 1, 2)[keep] for x in (got_scores, want_scores)]
    np.testing.assert_allclose(*scores, **TOLERANCE)


@pytest.mark.parametrize("grouped", [False, True])
def test_gradients_are_the_same(rng, grouped):
    x = rng.normal(size=(2, QUERIES, 8)).astype("float32")
    pair = layers(rng, grouped, [x.shape] * 3)
    weighting = ops.convert_to_tensor(rng.normal(size=x.shape), "float32")

    def of(layer):
        def loss():  # with scores: without them Keras's layer fails on JAX where sizes differ
            output, _ = layer(x, x, use_causal_mask=True, return_attention_scores=True)
            return ops.sum(ops.multiply(weighting, output))

        found = gradients(layer, loss)
        return {
            weight.path.removeprefix(layer.path).replace("attention_output", "output"): g.ravel()
            for weight, g in zip(layer.trainable_weights, found, strict=True)
        }

    theirs, ours = map(of, pair)
    assert set(theirs) == set(ours) and len(ours) == 8
    for name, gradient in ours.items():
        # Of size up to 30, from sums of 40 products. Keras's heads are an axis of its kernels.
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-5, atol=5e-5, err_msg=name)
