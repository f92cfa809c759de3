"""TokenAndPositionEmbedding: values, masks, lengths, half precision, errors."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm.layers import MultiHeadAttention, TokenAndPositionEmbedding
from tests import reference
from tests.common import keras_mask, randomize, to_numpy, weights_of

# Three float32 numbers of size 1 are added, then normalized over 8 features.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}

IDS = np.array([[1, 2, 3, 0, 0], [4, 10, 0, 0, 0]], "int32")
SEGMENTS = np.array([[0, 0, 1, 0, 0], [0, 1, 1, 1, 1]], "int32")


def built(rng, **kwargs):
    layer = TokenAndPositionEmbedding(11, 6, 8, **kwargs)
    layer.build((None, None))
    return randomize(layer, rng)


def inputs(num_segments):
    return (IDS, SEGMENTS) if num_segments else (IDS,)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("num_segments", [0, 2])
@pytest.mark.parametrize("norm", [False, True, "rms_norm"])
def test_values(rng, position, num_segments, norm):
    layer = built(
        rng, position=position, num_segments=num_segments, embedding_norm=norm, epsilon=1e-2
    )
    kind = {False: None, True: "layer_norm"}.get(norm, norm)
    want = reference.token_and_position_embedding(
        weights_of(layer), *inputs(num_segments), position=position, kind=kind, epsilon=1e-2
    )
    np.testing.assert_allclose(to_numpy(layer(*inputs(num_segments))), want, **TOLERANCE)


def test_norm_given_as_a_layer(rng):
    layer = built(rng, embedding_norm=keras.layers.LayerNormalization(epsilon=0.1))
    total = reference.token_and_position_embedding(weights_of(layer), IDS)
    want = reference.norm(weights_of(layer.norm_layer), total, epsilon=0.1)
    np.testing.assert_allclose(to_numpy(layer(IDS)), want, **TOLERANCE)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("length", [1, 5])
def test_dynamic_length_is_the_static_one(rng, position, length):
    layer = built(rng, position=position, num_segments=2, embedding_norm=True)
    call = tf.function(
        lambda ids, segments: layer(ids, segments),
        input_signature=[tf.TensorSpec((None, None), "int32")] * 2,
    )
    ids, segments = IDS[:, :length], SEGMENTS[:, :length]
    # The same sums; only the kernels chosen for the norm may differ.
    np.testing.assert_allclose(
        to_numpy(call(ids, segments)), to_numpy(layer(ids, segments)), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("num_segments", [0, 2])
def test_mask_of_token_zero_is_attached_and_used(rng, position, num_segments):
    layer = built(rng, position=position, num_segments=num_segments, mask_zero=True)
    output = layer(*inputs(num_segments))
    np.testing.assert_array_equal(keras_mask(output), IDS != 0)
    _, scores = MultiHeadAttention(2)(output, return_attention_scores=True)
    np.testing.assert_array_equal(to_numpy(scores)[0, :, :, 3:], 0.0)
    np.testing.assert_array_equal(to_numpy(scores)[1, :, :, 2:], 0.0)


def test_no_mask_without_mask_zero(rng):
    assert keras_mask(built(rng)(IDS)) is None


def test_mask_in_a_functional_model(rng):
    layer = built(rng, mask_zero=True)
    tokens = keras.Input((None,), dtype="int32")
    _, scores = MultiHeadAttention(2)(layer(tokens), return_attention_scores=True)
    got = keras.Model(tokens, scores).predict(IDS, verbose=0)
    np.testing.assert_array_equal(got[0, :, :, 3:], 0.0)
    np.testing.assert_array_equal(got[1, :, :, 2:], 0.0)


def test_tables_of_one_shape_start_differently(rng):
    layer = TokenAndPositionEmbedding(6, 6, 8, num_segments=6)
    layer.build((None, None))
    tables = [to_numpy(w.value) for w in layer.weights]
    assert [table.shape for table in tables] == [(6, 8)] * 3
    for one, other in itertools.combinations(tables, 2):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(rng, position, dtype):
    layer = built(rng, position=position, num_segments=2, embedding_norm=True, dtype=dtype)
    output = layer(IDS, SEGMENTS)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    want = reference.token_and_position_embedding(
        weights_of(layer), IDS, SEGMENTS, position=position, kind="layer_norm"
    )
    # Three terms, two sums and an output of up to 4 are each rounded by 2^-9 (bfloat16) or
    # 2^-12 (float16) of their size.
    atol = 0.05 if "bfloat16" in dtype else 0.006
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_longer_sequence_is_refused(rng, position):
    layer = built(rng, position=position)
    assert layer(np.ones((1, 6), "int32")).shape == (1, 6, 8)
    with pytest.raises(ValueError, match="positions 0 to 5.*length 7.*Truncate it, or pass max"):
        layer(np.ones((1, 7), "int32"))


@pytest.mark.parametrize(
    ("num_segments", "call", "received"),
    [(2, (IDS,), "segment_ids=none"), (0, (IDS, SEGMENTS), "segment_ids=given")],
)
def test_segments_missing_or_not_wanted(rng, num_segments, call, received):
    layer = built(rng, num_segments=num_segments)
    with pytest.raises(ValueError, match="takes `segment_ids` if and only if") as error:
        layer(*call)
    assert f"num_segments={num_segments}, {received}" in str(error.value)


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size", "Pass a positive int"),
        ({"vocabulary_size": "11"}, "vocabulary_size", "Pass a positive int"),
        ({"max_sequence_length": -1}, "max_sequence_length", "Pass a positive int"),
        ({"max_sequence_length": 6.5}, "max_sequence_length", "Pass a positive int"),
        ({"embedding_dim": True}, "embedding_dim", "Pass a positive int"),
        ({"embedding_dim": None}, "embedding_dim", "Pass a positive int"),
        ({"num_segments": -1}, "num_segments", "a whole number from 0"),
        ({"num_segments": True}, "num_segments", "a whole number from 0"),
        ({"num_segments": 1.5}, "num_segments", "a whole number from 0"),
        ({"position": "rotary"}, "position", "'sinusoidal', 'learned'"),
        ({"position": None}, "position", "'sinusoidal', 'learned'"),
        ({"epsilon": 0.0}, "epsilon", "Pass a small float such as 1e-5"),
        ({"epsilon": float("inf")}, "epsilon", "finite"),
        ({"embedding_norm": "batch"}, "embedding_norm", "'dynamic_tanh', 'none'"),
        ({"positions": "learned"}, "positions", "Did you mean `position`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    sizes = {"vocabulary_size": 11, "max_sequence_length": 6, "embedding_dim": 8}
    with pytest.raises(ValueError, match="TokenAndPositionEmbedding") as error:
        TokenAndPositionEmbedding(**{**sizes, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)
