"""TransformerEncoderLayer: values, masks, precision, errors."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import TransformerEncoderLayer
from tests import reference
from tests.common import keras_mask, randomize, to_numpy, weights_of

# Some forty float32 operations of size 1 to 10, normalized twice to size 1.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
KEEP = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
EMPTY = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])


def data(rng):
    return rng.normal(size=(2, 5, 8)).astype("float32")


def built(rng, **kwargs):
    layer = TransformerEncoderLayer(16, num_heads=2, **kwargs)
    layer.build((None, None, 8))
    return randomize(layer, rng)


def block(weights, x, activation="relu", kind="layer_norm", epsilon=1e-5, **masks):
    def part(name):
        return reference.below(weights, name)

    y, _ = reference.multi_head_attention(part("attention"), x, num_heads=2, **masks)
    x, _ = reference.add_norm(part("attention_add_norm"), x, y, kind, epsilon)
    y = reference.feed_forward(part("feed_forward"), x, activation)
    return reference.add_norm(part("feed_forward_add_norm"), x, y, kind, epsilon)[0]


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_values(rng, kind, activation):
    x = data(rng)
    layer = built(rng, norm=kind, activation=activation, epsilon=1e-3)
    want = block(weights_of(layer), x, activation, kind, 1e-3)
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


@pytest.mark.parametrize("keep", [KEEP, EMPTY])
@pytest.mark.parametrize("dtype", ["int32", "bool", "float32"])
def test_padding_mask(rng, keep, dtype):
    x = data(rng)
    layer = built(rng)
    want = block(weights_of(layer), x, key_mask=keep)
    np.testing.assert_allclose(
        to_numpy(layer(x, padding_mask=keep.astype(dtype))), want, **TOLERANCE
    )


def test_attention_mask_and_both(rng):
    x = data(rng)
    layer = built(rng)
    mask = rng.random((2, 5, 5)) < 0.5
    for masks in ({}, {"padding_mask": KEEP}):
        want = block(weights_of(layer), x, attention_mask=mask, key_mask=masks.get("padding_mask"))
        got = to_numpy(layer(x, attention_mask=mask, **masks))
        np.testing.assert_allclose(got, want, **TOLERANCE)


def test_content_of_padding_never_changes_real_rows(rng):
    x = data(rng)
    layer = built(rng)
    other = np.where(KEEP[..., None] == 1, x, np.float32(-50.0))
    before = to_numpy(layer(x, padding_mask=KEEP))
    after = to_numpy(layer(other, padding_mask=KEEP))
    np.testing.assert_array_equal(after[KEEP == 1], before[KEEP == 1])
    assert not np.allclose(after[KEEP == 0], before[KEEP == 0])


def test_keras_mask_is_used_and_kept(rng):
    ids = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
    x = keras.layers.Embedding(5, 8, mask_zero=True)(ids)
    first, second = built(rng), built(rng)
    hidden = first(x)
    output = second(hidden)
    np.testing.assert_array_equal(keras_mask(hidden), ids != 0)
    np.testing.assert_array_equal(keras_mask(output), ids != 0)
    masks = {"query_mask": ids != 0, "key_mask": ids != 0}
    want = block(weights_of(first), to_numpy(x), **masks)
    want = block(weights_of(second), want, **masks)
    np.testing.assert_allclose(to_numpy(output), want, **TOLERANCE)


def test_dropout_acts_only_in_training(rng):
    x = data(rng)
    layer = built(rng, dropout=0.5)
    want = block(weights_of(layer), x)
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)
    one, other = (to_numpy(layer(x, training=True)) for _ in range(2))
    assert not np.allclose(one, want) and not np.allclose(one, other)
    places = (layer.attention, layer.attention_add_norm, layer.feed_forward_add_norm)
    assert [part.dropout for part in places] == [0.5] * 3
    assert layer.feed_forward.dropout == 0.0


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(rng, dtype):
    x = data(rng)
    layer = TransformerEncoderLayer(16, num_heads=2, dtype=dtype)
    output = layer(x, padding_mask=EMPTY)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    want = block(weights_of(layer), x, key_mask=EMPTY)
    # About ten results of size 1 to 4 in a row are rounded by 2^-9 (bfloat16) or 2^-12 (float16).
    atol = 0.08 if "bfloat16" in dtype else 0.01
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)


def test_symbolic_call_with_a_padding_mask(rng):
    x = data(rng)
    inputs = keras.Input((None, 8)), keras.Input((None,), dtype="int32")
    layer = built(rng)
    model = keras.Model(inputs, layer(inputs[0], padding_mask=inputs[1]))
    assert model.output_shape == (None, None, 8)
    want = block(weights_of(layer), x, key_mask=KEEP)
    np.testing.assert_allclose(model.predict([x, KEEP], verbose=0), want, **TOLERANCE)


def test_quantized_model_is_saved_bit_equal(rng, tmp_path):
    x = keras.Input((5, 8))
    model = keras.Model(x, TransformerEncoderLayer(16, num_heads=2)(x))
    randomize(model, rng)
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.dtype for w in loaded.weights].count("int8") == 6
    sample = data(rng)
    np.testing.assert_array_equal(to_numpy(loaded(sample)), to_numpy(model(sample)))


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"intermediate_dim": 0}, "intermediate_dim", "Pass a positive int"),
        ({"intermediate_dim": 1.5}, "intermediate_dim", "Pass a positive int"),
        ({"num_heads": True}, "num_heads", "Pass a positive int"),
        ({"num_heads": -2}, "num_heads", "Pass a positive int"),
        ({"dropout": 1.0}, "dropout", "Pass for instance 0.1"),
        ({"dropout": "a"}, "dropout", "Pass a float"),
        ({"activation": "rellu"}, "activation", "'gelu_tanh', "),
        ({"norm": "batch"}, "norm", "'affine', 'none', or a Keras layer"),
        ({"epsilon": 0}, "epsilon", "Pass a small float such as 1e-5"),
        ({"epsilon": float("nan")}, "epsilon", "finite"),
        ({"dropuot": 0.1}, "dropuot", "Did you mean `dropout`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError) as error:
        TransformerEncoderLayer(**{"intermediate_dim": 16, "num_heads": 2, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)


def test_heads_that_do_not_divide(rng):
    with pytest.raises(ValueError, match="num_heads=3.*Pass a num_heads that divides 8"):
        TransformerEncoderLayer(16, num_heads=3)(data(rng))


@pytest.mark.parametrize(
    ("name", "shape"), [("padding_mask", (2, 5, 5)), ("attention_mask", (2, 5))]
)
def test_rank_of_a_mask(rng, name, shape):
    with pytest.raises(ValueError, match=rf"`{name}` must have shape \(batch, ") as error:
        built(rng)(data(rng), **{name: np.ones(shape, bool)})
    assert str(shape) in str(error.value)
