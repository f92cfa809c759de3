"""MultiHeadAttention says what is wrong, with what it received, and what to do."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import MultiHeadAttention

X = np.zeros((2, 5, 8), "float32")


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"num_heads": 0}, "num_heads", "Pass a positive int"),
        ({"num_heads": -1}, "num_heads", "Pass a positive int"),
        ({"num_heads": 2.0}, "num_heads", "Pass a positive int"),
        ({"num_heads": True}, "num_heads", "Pass a positive int"),
        ({"num_heads": None}, "num_heads", "Pass a positive int"),
        ({"key_dim": 0}, "key_dim", "Pass a positive int"),
        ({"value_dim": -2}, "value_dim", "Pass a positive int"),
        ({"output_dim": "8"}, "output_dim", "Pass a positive int"),
        ({"dropout": 1}, "dropout", "Pass for instance 0.1"),
        ({"dropout": -0.5}, "dropout", "Pass for instance 0.1"),
        ({"dropout": float("nan")}, "dropout", "finite"),
        ({"dropout": None}, "dropout", "Pass a float"),
        ({"scale": 0.0}, "scale", "Pass a positive float"),
        ({"nun_heads": 2}, "nun_heads", "Did you mean `num_heads`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError, match="MultiHeadAttention") as error:
        MultiHeadAttention(**{"num_heads": 2, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)


def test_numpy_sizes_are_sizes():
    layer = MultiHeadAttention(np.int64(2), key_dim=np.int32(4))
    assert type(layer.get_config()["num_heads"]) is type(layer.get_config()["key_dim"]) is int


def test_heads_that_do_not_divide():
    with pytest.raises(
        ValueError, match="`num_heads`.*num_heads=3.*Pass a num_heads that divides 8"
    ):
        MultiHeadAttention(3)(X)


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        ([(2, 8)], "query"),
        ([(2, 5, 4, 8)], "query"),
        ([(2, 5, 8), (5, 8)], "value"),
        ([(2, 5, 8), (2, 5, 8), (2, 5, 8, 1)], "key"),
    ],
)
def test_rank_of_an_input(shapes, name):
    with pytest.raises(ValueError, match=f"`{name}` must have shape .*Reshape it first"):
        MultiHeadAttention(2)(*(np.zeros(shape, "float32") for shape in shapes))


def test_unknown_features():
    with pytest.raises(ValueError, match="`query` .*known features"):
        MultiHeadAttention(2)(keras.Input((5, None)))


@pytest.mark.parametrize("name", ["query_mask", "key_mask", "value_mask"])
@pytest.mark.parametrize("shape", [(5,), (2, 1, 5), (2, 1, 1, 5)])
def test_rank_of_a_mask(name, shape):
    with pytest.raises(ValueError, match=rf"`{name}` must have shape \(batch, ") as error:
        MultiHeadAttention(2)(X, **{name: np.ones(shape, bool)})
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (1, 2, 2, 5, 5)])
def test_rank_of_the_attention_mask(shape):
    with pytest.raises(ValueError, match="`attention_mask` must have shape") as error:
        MultiHeadAttention(2)(X, attention_mask=np.ones(shape, bool))
    assert "(batch, heads, queries, keys)" in str(error.value)
