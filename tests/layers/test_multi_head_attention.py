"""MultiHeadAttention: values, exchange with Keras's layer, precision, symbolic calls, errors."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import MultiHeadAttention
from tests import reference
from tests.backends import traced
from tests.common import randomize, to_numpy, weights_of

# Dot products of 8 float32 numbers of size 1, a softmax and two more products: sums of up to 10
# with an error of a few units of 6e-8 of their largest term.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def data(rng, length=5, features=8):
    return rng.normal(size=(2, length, features)).astype("float32")


def built(rng, *inputs, num_heads=2, **kwargs):
    layer = MultiHeadAttention(num_heads, **kwargs)
    layer.build(*(x.shape for x in inputs))
    return randomize(layer, rng)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"num_heads": 1},
        {"num_heads": 8},
        {"use_bias": False},
        {"num_heads": 3, "key_dim": 5},
        {"key_dim": 3, "value_dim": 7},
        {"value_dim": 7, "output_dim": 6},
    ],
)
def test_self_attention(rng, kwargs):
    x = data(rng)
    layer = built(rng, x, **kwargs)
    want, want_scores = reference.multi_head_attention(
        weights_of(layer), x, num_heads=layer.num_heads
    )
    assert want.shape == (2, 5, kwargs.get("output_dim", 8))
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)
    output, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(output), want, **TOLERANCE)
    np.testing.assert_allclose(to_numpy(scores), want_scores, **TOLERANCE)


@pytest.mark.parametrize("with_key", [False, True])
def test_cross_attention_of_other_lengths_and_features(rng, with_key):
    inputs = [data(rng, 4, 8), data(rng, 7, 6)] + [data(rng, 7, 10)] * with_key
    layer = built(rng, *inputs)
    want, want_scores = reference.multi_head_attention(weights_of(layer), *inputs, num_heads=2)
    output, scores = layer(*inputs, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(output), want, **TOLERANCE)
    np.testing.assert_allclose(to_numpy(scores), want_scores, **TOLERANCE)


def test_value_and_key_default_to_the_query(rng):
    x = data(rng)
    layer = built(rng, x)
    for other in (layer(x, x), layer(x, x, x), layer(x, value=x), layer(query=x, key=x)):
        np.testing.assert_array_equal(to_numpy(other), to_numpy(layer(x)))


KERAS_CASES = [
    {},
    {"key_dim": 3},
    {"key_dim": 3, "value_dim": 5},
    {"output_dim": 6},
    {"use_bias": False},
]


@pytest.mark.parametrize("kwargs", KERAS_CASES)
@pytest.mark.parametrize("cross", [False, True])
def test_to_keras_and_back(rng, kwargs, cross):
    query = data(rng)
    value, key = (data(rng, 7, 6), data(rng, 7, 10)) if cross else (query, query)
    layer = built(rng, query, value, key, **kwargs)
    theirs = layer.to_keras()
    assert type(theirs) is keras.layers.MultiHeadAttention
    # Without scores, Keras on JAX refuses a `value_dim` other than `key_dim`.
    want, _ = theirs(query, value, key, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(layer(query, value, key)), to_numpy(want), **TOLERANCE)
    back = MultiHeadAttention.from_keras(theirs)
    assert back.use_bias == layer.use_bias and back.num_heads == layer.num_heads
    assert weights_of(back).keys() == weights_of(layer).keys()
    for name, weight in weights_of(layer).items():
        np.testing.assert_array_equal(weights_of(back)[name], weight)
    np.testing.assert_array_equal(
        to_numpy(back(query, value, key)), to_numpy(layer(query, value, key))
    )


@pytest.mark.parametrize("output_shape", [None, 6])
@pytest.mark.parametrize("use_bias", [True, False])
def test_from_keras_computes_the_same(rng, output_shape, use_bias):
    query, value = data(rng), data(rng, 7, 6)
    theirs = keras.layers.MultiHeadAttention(
        3, 4, value_dim=5, output_shape=output_shape, use_bias=use_bias, dropout=0.25, name="mha"
    )
    theirs.build(query.shape, value.shape)
    randomize(theirs, rng)
    ours = MultiHeadAttention.from_keras(theirs)
    assert (ours.name, ours.dropout) == ("mha", 0.25)
    mask = np.tril(np.ones((2, 5, 7)))
    for kwargs in ({}, {"attention_mask": mask}, {"use_causal_mask": True}):
        got, got_scores = ours(query, value, return_attention_scores=True, **kwargs)
        want, want_scores = theirs(query, value, return_attention_scores=True, **kwargs)
        np.testing.assert_allclose(to_numpy(got), to_numpy(want), **TOLERANCE)
        np.testing.assert_allclose(to_numpy(got_scores), to_numpy(want_scores), **TOLERANCE)


def test_from_keras_copies_and_does_not_share(rng):
    x = data(rng)
    layer = built(rng, x)
    theirs = layer.to_keras()
    before = to_numpy(theirs(x, x))
    randomize(layer, rng)
    np.testing.assert_array_equal(to_numpy(theirs(x, x)), before)


@pytest.mark.parametrize("direction", ["to_keras", "from_keras"])
def test_exchange_of_an_unbuilt_layer_is_refused(direction):
    with pytest.raises(ValueError, match=f"{direction} .*must be built.*Call it on data once"):
        if direction == "to_keras":
            MultiHeadAttention(2).to_keras()
        else:
            MultiHeadAttention.from_keras(keras.layers.MultiHeadAttention(2, 4))


@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [
        ({"attention_axes": (1, 2)}, (2, 3, 4, 8)),
        ({"attention_axes": (1,)}, (2, 3, 4, 8)),
        ({"output_shape": (2, 3)}, (2, 5, 8)),
    ],
)
def test_from_keras_refuses_what_it_cannot_compute(kwargs, shape):
    theirs = keras.layers.MultiHeadAttention(2, 4, **kwargs)
    theirs.build(shape, shape)
    with pytest.raises(ValueError, match="MultiHeadAttention.*Received"):
        MultiHeadAttention.from_keras(theirs)


def test_dropout_acts_on_the_scores_but_not_on_those_returned(rng):
    length = 40
    x = data(rng, length, length)
    layer = built(rng, x, num_heads=1, dropout=0.5)
    identity = np.eye(length, dtype="float32")
    for dense in (layer.value_dense, layer.output_dense):  # so that the output shows the scores
        dense.kernel.assign(identity)
        dense.bias.assign(np.zeros(length))
    value = np.stack([identity] * 2)
    _, scores = layer(x, value, x, return_attention_scores=True)
    dropped, returned = layer(x, value, x, training=True, return_attention_scores=True)
    scores, dropped = to_numpy(scores)[:, 0], to_numpy(dropped)
    np.testing.assert_array_equal(to_numpy(returned)[:, 0], scores)
    np.testing.assert_array_equal(to_numpy(layer(x, value, x)), scores)
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 2 * scores[kept], rtol=1e-6)
    # 3200 fair coins: the share strays by 0.009 (one deviation), so 0.07 is eight of them.
    assert abs(kept[scores != 0].mean() - 0.5) < 0.07


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(rng, dtype):
    x = data(rng)
    layer = MultiHeadAttention(2, dtype=dtype)
    output, scores = layer(x, return_attention_scores=True)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    want, want_scores = reference.multi_head_attention(weights_of(layer), x, num_heads=2)
    # Inputs, kernels and each of four intermediate results of size 1 to 4 are rounded by 2^-9
    # (bfloat16) or 2^-12 (float16) of their size.
    atol = 0.05 if "bfloat16" in dtype else 0.006
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)
    np.testing.assert_allclose(to_numpy(scores), want_scores, rtol=0, atol=atol)


@pytest.mark.parametrize("length", [5, None])
@pytest.mark.parametrize("batch", [2, None])
def test_symbolic_call_with_scores(rng, length, batch):
    query, value = data(rng), data(rng, 7, 6)
    layer = MultiHeadAttention(2, output_dim=3)
    inputs = [
        keras.Input((length, 8), batch_size=batch),
        keras.Input((length and 7, 6), batch_size=batch),
    ]
    output, scores = layer(*inputs, return_attention_scores=True)
    assert output.shape == (batch, length, 3)
    assert scores.shape == (batch, 2, length, length and 7)
    randomize(layer, rng)
    got = keras.Model(inputs, [output, scores]).predict([query, value], verbose=0)
    want = reference.multi_head_attention(weights_of(layer), query, value, num_heads=2)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)


@pytest.mark.parametrize("spec", [(2, 5, 8), (2, None, 8), (None, None, 8)])
def test_causal_mask_of_static_and_dynamic_length(rng, spec):
    x = data(rng)
    layer = built(rng, x)
    call = traced(
        lambda x: layer(x, use_causal_mask=True, return_attention_scores=True), (spec, "float32")
    )
    want = reference.multi_head_attention(weights_of(layer), x, num_heads=2, causal=True)
    for got, expected in zip(call(x), want, strict=True):
        np.testing.assert_allclose(to_numpy(got), expected, **TOLERANCE)
