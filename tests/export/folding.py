"""Folding a model and comparing it with itself."""

import keras
import numpy as np

from keras_addnorm.export.fold import RULES, fold
from keras_addnorm.models import TransformerEncoder
from tests.common import TINY_ENCODER, to_numpy
from tests.export.common import randomize

# Some ten float32 products and sums in another order, each 6e-8 of the largest value in a vector,
# through a few layers of random weights that enlarge what goes in.
TOLERANCE = 2e-5


def assert_same(model, inputs, **expected):
    """Folds a model, compares it at unpadded positions, and returns what `fold` did.

    The rules in `expected` must have been applied so often; without any, nothing is said of them.
    """
    before = [to_numpy(weight) for weight in model.weights]
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    folded = fold(model)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    assert not {id(w) for w in model.weights} & {id(w) for w in folded.model.weights}
    assert set(folded.rules) == set(RULES)
    assert {k: v for k, v in folded.rules.items() if k in expected} == expected
    compare(model, folded.model, inputs)
    return folded


def compare(model, folded, inputs):
    mask = inputs.get("padding_mask") if isinstance(inputs, dict) else None
    want, got = model(inputs), folded(inputs)
    keras.tree.assert_same_structure(want, got)
    for a, b in zip(keras.tree.flatten(want), keras.tree.flatten(got), strict=True):
        kept = mask.astype(bool) if mask is not None and a.shape[:2] == mask.shape else ...
        a, b = to_numpy(a)[kept], to_numpy(b)[kept]
        scale = np.maximum(np.abs(a).max(axis=-1, keepdims=True), 1.0)
        assert (np.abs(a - b) / scale).max() <= TOLERANCE


def encoder(**arguments):
    return randomize(TransformerEncoder(**{**TINY_ENCODER, **arguments}))


def applied(folded):
    return {name: count for name, count in folded.rules.items() if count}


def stream(length=6):
    return keras.Input((length, 8), name="x")
