"""Masks of MultiHeadAttention: the rule, all ways to pass one, rows with nothing to attend to."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addnorm.layers import MultiHeadAttention
from tests import reference
from tests.backends import gradients
from tests.common import keras_mask, randomize, to_numpy, weights_of, with_keras_mask

# As in test_multi_head_attention.py.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

KEEP = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
EMPTY = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])  # the second sequence has nothing at all


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 5, 8)).astype("float32")


@pytest.fixture
def layer(rng, x):
    layer = MultiHeadAttention(2)
    layer.build(x.shape)
    return randomize(layer, rng)


def random_mask(rng, *shape):
    mask = rng.random(shape) < 0.5
    mask[0, ..., 1, :] = False  # one query that sees nothing
    return mask


MASKS = {
    "query_mask": lambda rng: {"query_mask": KEEP},
    "key_mask": lambda rng: {"key_mask": KEEP},
    "value_mask": lambda rng: {"value_mask": KEEP},
    "query and key": lambda rng: {"query_mask": KEEP[::-1], "key_mask": KEEP},
    "value and key": lambda rng: {"value_mask": KEEP[:, ::-1], "key_mask": EMPTY},
    "attention rank 3": lambda rng: {"attention_mask": random_mask(rng, 2, 5, 5)},
    "attention rank 4": lambda rng: {"attention_mask": random_mask(rng, 2, 2, 5, 5)},
    "attention, one for all heads": lambda rng: {"attention_mask": random_mask(rng, 2, 1, 5, 5)},
    "causal": lambda rng: {"use_causal_mask": True},
    "everything": lambda rng: {
        "query_mask": KEEP[::-1],
        "value_mask": 1 - np.eye(2, 5),
        "key_mask": KEEP,
        "attention_mask": random_mask(rng, 2, 2, 5, 5),
        "use_causal_mask": True,
    },
}


@pytest.mark.parametrize("make", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_values(rng, layer, x, make, dtype):
    masks = {
        name: mask if isinstance(mask, bool) else mask.astype(dtype)
        for name, mask in make(rng).items()
    }
    ours = dict(masks)
    want, want_scores = reference.multi_head_attention(
        weights_of(layer), x, causal=masks.pop("use_causal_mask", False), num_heads=2, **masks
    )
    # The value is passed, so that a query mask stays a query mask.
    output, scores = layer(x, x, return_attention_scores=True, **ours)
    np.testing.assert_allclose(to_numpy(output), want, **TOLERANCE)
    np.testing.assert_allclose(to_numpy(scores), want_scores, **TOLERANCE)
    np.testing.assert_array_equal(to_numpy(scores)[want_scores == 0], 0.0)
    np.testing.assert_allclose(to_numpy(layer(x, x, **ours)), want, **TOLERANCE)


@pytest.mark.parametrize("make", MASKS.values(), ids=MASKS)
def test_value_left_out_means_the_query_whatever_the_masks(rng, layer, x, make):
    masks = make(rng)
    np.testing.assert_array_equal(to_numpy(layer(x, **masks)), to_numpy(layer(x, x, **masks)))


def test_all_ways_to_mask_keys_agree(layer, x):
    masked_value = with_keras_mask(x, KEEP)
    rows = np.repeat(KEEP[:, None, :], 5, axis=1)
    outputs = [
        layer(x, x, key_mask=KEEP),
        layer(x, x, key_mask=KEEP.astype("bool")),
        layer(x, x, key_mask=KEEP.astype("float32")),
        layer(x, x, key_mask=ops.convert_to_tensor(KEEP)),
        layer(x, x, value_mask=KEEP),
        layer(x, x, key_mask=KEEP, value_mask=KEEP),
        layer(x, x, attention_mask=rows),
        layer(x, x, attention_mask=rows[:, None]),
        layer(x, x, attention_mask=np.repeat(rows[:, None], 2, axis=1)),
        layer(x, masked_value),
        layer(x, x, masked_value),
    ]
    assert not np.allclose(to_numpy(outputs[0]), to_numpy(layer(x)))
    for output in outputs[1:]:
        np.testing.assert_array_equal(to_numpy(output), to_numpy(outputs[0]))


def test_all_ways_to_mask_queries_agree(layer, x):
    masked_query = with_keras_mask(x, KEEP)
    columns = np.repeat(KEEP[:, :, None], 5, axis=2)
    outputs = [
        layer(x, x, query_mask=KEEP),
        layer(x, x, attention_mask=columns),
        layer(masked_query, x),
    ]
    for output in outputs:
        np.testing.assert_array_equal(to_numpy(output), to_numpy(outputs[0]))
        np.testing.assert_array_equal(
            to_numpy(output)[KEEP == 0], np.tile(to_numpy(layer.output_dense.bias.value), (6, 1))
        )


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("with_scores", [False, True])
def test_nothing_to_attend_to_gives_exactly_the_bias(rng, x, dtype, training, dropout, with_scores):
    layer = MultiHeadAttention(2, dropout=dropout, dtype=dtype)
    layer.build(x.shape)
    randomize(layer, rng)
    outputs = layer(x, key_mask=EMPTY, training=training, return_attention_scores=with_scores)
    output, scores = outputs if with_scores else (outputs, None)
    output = to_numpy(output)
    assert np.isfinite(output).all()
    bias = to_numpy(ops.cast(layer.output_dense.bias.value, layer.compute_dtype))
    np.testing.assert_array_equal(output[1], np.tile(bias, (5, 1)))
    assert not np.allclose(output[0], bias)
    if with_scores:
        scores = to_numpy(scores)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores[1], 0.0)
        np.testing.assert_array_equal(scores[0, ..., 3:], 0.0)
        # A row of at most 5 float32 scores sums to 1 up to a few units of 6e-8.
        np.testing.assert_allclose(scores[0].sum(-1), 1.0, rtol=0, atol=1e-6)


def test_gradients_are_finite_beside_rows_with_nothing_to_attend_to(layer, x):
    found = gradients(layer, lambda: ops.sum(ops.square(layer(x, key_mask=EMPTY))))
    for weight, gradient in zip(layer.trainable_weights, found, strict=True):
        assert np.isfinite(gradient).all(), weight.path


@pytest.mark.parametrize("padding", [0.0, 1e3, -1e3])
def test_content_of_padding_never_changes_real_rows(layer, x, padding):
    other = np.where(KEEP[..., None] == 1, x, np.float32(padding))
    before, after = to_numpy(layer(x, key_mask=KEEP)), to_numpy(layer(other, key_mask=KEEP))
    np.testing.assert_array_equal(after[KEEP == 1], before[KEEP == 1])
    assert np.isfinite(after).all()


def test_masked_scores_are_zero_beside_large_ones(layer, x):
    output, scores = layer(100 * x, key_mask=KEEP, return_attention_scores=True)
    assert np.isfinite(to_numpy(output)).all()
    np.testing.assert_array_equal(to_numpy(scores)[0, ..., 3:], 0.0)
    np.testing.assert_array_equal(to_numpy(scores)[1, ..., 1:], 0.0)


def test_keras_mask_is_used_and_kept(rng):
    ids = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
    embedded = keras.layers.Embedding(5, 8, mask_zero=True)(ids)
    layer = MultiHeadAttention(2)
    output = layer(embedded)
    np.testing.assert_array_equal(keras_mask(output), ids != 0)
    bare = ops.convert_to_tensor(to_numpy(embedded))
    explicit = layer(bare, bare, query_mask=ids != 0, value_mask=ids != 0)
    np.testing.assert_array_equal(to_numpy(output), to_numpy(explicit))
    assert keras_mask(explicit) is None
    output, scores = layer(embedded, return_attention_scores=True)
    np.testing.assert_array_equal(keras_mask(output), ids != 0)
    np.testing.assert_array_equal(to_numpy(scores)[1, :, 1:], 0.0)


def test_keras_mask_in_a_functional_model():
    ids = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    embedding, layer = keras.layers.Embedding(5, 8, mask_zero=True), MultiHeadAttention(2)
    output = layer(embedding(inputs))
    assert keras_mask(output) is not None
    got = keras.Model(inputs, output).predict(ids, verbose=0)
    bare = ops.convert_to_tensor(to_numpy(embedding(ids)))
    want = layer(bare, bare, query_mask=ids != 0, value_mask=ids != 0)
    np.testing.assert_allclose(got, to_numpy(want), **TOLERANCE)


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
def test_masked_rows_are_zero_at_inputs_that_overflow_float16_products(dtype):
    x = np.full((1, 4, 32), 1000.0, "float16")
    layer = MultiHeadAttention(2, dtype=dtype)
    output = to_numpy(layer(x, key_mask=np.zeros((1, 4), bool)))
    np.testing.assert_array_equal(output, np.zeros((1, 4, 32)))


def test_keras_mask_reaches_a_compiled_model(rng):
    """On JAX, traced arrays take no attributes: their masks must be asked of Keras."""
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 8, mask_zero=True)(ids)
    model = keras.Model(ids, MultiHeadAttention(num_heads=2)(x))
    data = np.array([[1, 2, 3, 0, 0]], "int32")
    # XLA may sum in another order: a few units of 6e-8 of values of size 1.
    got, want = model.predict(data, verbose=0), to_numpy(model(data))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
