"""PatchEmbedding: values, tokens, dropout, sizes, half precision, export, errors."""

import keras
import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.layers import AddNorm, FeedForward, MultiHeadAttention, PatchEmbedding
from tests import reference
from tests.backends import tensorflow_only, traced
from tests.common import randomize, to_numpy, weights_of

# Dot products of 36 float32 numbers of size 1: a few units of 6e-8 in sums of up to 20.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def built(rng, images, **kwargs):
    layer = PatchEmbedding(**{"patch_size": (4, 3), "embedding_dim": 8, **kwargs})
    layer.build(images.shape)
    return randomize(layer, rng)


def data(rng, shape=(2, 8, 12, 3)):
    return rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize("classes", [0, 1, 2])
@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("position", ["learned", "none"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_values(rng, classes, registers, position, use_bias):
    x = data(rng)
    layer = built(
        rng,
        x,
        num_class_tokens=classes,
        num_register_tokens=registers,
        position=position,
        use_bias=use_bias,
        dropout=0.5,  # not active
    )
    weights = weights_of(layer)
    count = 1 + use_bias + bool(classes) + bool(registers) + (position == "learned")
    assert len(weights) == count
    want = reference.patch_embedding(weights, x, (4, 3))
    assert want.shape == (2, classes + registers + 2 * 4, 8)
    assert layer.compute_output_shape(x.shape) == want.shape
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


def test_an_int_is_a_square_patch(rng):
    x = data(rng, (2, 8, 12, 1))
    layer = built(rng, x, patch_size=4)
    want = reference.patch_embedding(weights_of(layer), x, (4, 4))
    np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


def test_patches_go_row_by_row_and_prefix_tokens_come_first():
    x = np.arange(6.0, dtype="float32").reshape(1, 2, 3, 1)  # 6 patches of one pixel
    layer = PatchEmbedding(1, 1, num_register_tokens=2, kernel_initializer="ones")
    layer.build(x.shape)
    layer.class_tokens.assign([[-1.0]])
    layer.register_tokens.assign([[-2.0], [-3.0]])
    layer.position_embeddings.assign(np.zeros((7, 1)))
    assert to_numpy(layer(x))[0, :, 0].tolist() == [-1, -2, -3, 0, 1, 2, 3, 4, 5]
    layer.position_embeddings.assign(np.full((7, 1), 10.0))  # none for the registers
    assert to_numpy(layer(x))[0, :, 0].tolist() == [9, -2, -3, 10, 11, 12, 13, 14, 15]


def test_dropout_is_at_the_end(rng):
    x = data(rng, (8, 8, 12, 3))
    layer = built(rng, x, num_register_tokens=2, dropout=0.5)
    exact, got = to_numpy(layer(x)), to_numpy(layer(x, training=True))
    kept = got != 0
    np.testing.assert_allclose(got[kept], 2 * exact[kept], rtol=1e-6)
    # 704 fair coins: the share strays by 0.019 (one deviation), so 0.15 is eight of them.
    assert abs(kept.mean() - 0.5) < 0.15
    assert not kept[:, :3].all()  # class and register tokens too


@pytest.mark.parametrize("classes", [0, 2])
def test_without_positions_any_image_size_is_taken(rng, classes):
    layer = PatchEmbedding((4, 3), 8, num_class_tokens=classes, position="none")
    layer.build((None, None, None, 3))
    randomize(layer, rng)
    call = traced(layer, ((None, None, None, 3), "float32"))
    for shape in ((2, 8, 12, 3), (1, 4, 6, 3)):
        x = data(rng, shape)
        want = reference.patch_embedding(weights_of(layer), x, (4, 3))
        np.testing.assert_allclose(to_numpy(call(x)), want, **TOLERANCE)
        np.testing.assert_allclose(to_numpy(layer(x)), want, **TOLERANCE)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(rng, dtype):
    x = data(rng)
    layer = PatchEmbedding((4, 3), 8, num_register_tokens=2, dtype=dtype)
    output = layer(x)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    want = reference.patch_embedding(weights_of(layer), x, (4, 3))
    # Pixels, kernel, sum and output of up to 4 are each rounded by 2^-9 (bfloat16) or 2^-12
    # (float16) of their size; the errors of 36 products add up like a random walk.
    atol = 0.05 if "bfloat16" in dtype else 0.006
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)


def test_tokens_and_positions_start_differently():
    layer = PatchEmbedding(1, 8, num_class_tokens=2, num_register_tokens=2)
    layer.build((None, 1, 2, 3))
    tables = (layer.class_tokens, layer.register_tokens, layer.position_embeddings)
    first, *others = (to_numpy(table.value)[:2] for table in tables)
    assert not any(np.array_equal(first, other) for other in others)


@tensorflow_only
@pytest.mark.parametrize("batch_size", [1, None])
@pytest.mark.parametrize("position", ["learned", "none"])
def test_export_is_one_partition(rng, batch_size, position, tmp_path):
    images = keras.Input((32, 32, 3), name="images")
    embed = PatchEmbedding(8, 32, num_register_tokens=2, position=position)
    n, x = AddNorm(return_sum=True)(embed(images), MultiHeadAttention(4)(embed(images)))
    model = keras.Model(images, AddNorm()(x, FeedForward(64, "silu", gated=True)(n)))
    randomize(model, rng)
    report = export.to_tflite(model, tmp_path / "m.tflite", batch_size=batch_size)
    assert report.xnnpack_partitions == 1
    assert report.operators["CONV_2D"] == 1
    unwanted = ("CUSTOM", "SELECT", "SHAPE", "BROADCAST", "FILL", "CONCATENATION")
    assert not any(op.startswith(unwanted) for op in report.operators)


@pytest.mark.parametrize(
    ("shape", "rule", "fix"),
    [
        ((2, 8, 12), "must have shape .batch, height, width, channels", "Reshape them first"),
        ((2, 8, 12, None), "known channels", "Reshape them first"),
        ((2, 9, 12, 3), "whole patches of 4 x 3", "Resize or crop them to multiples"),
        ((2, 8, 11, 3), "whole patches of 4 x 3", "Resize or crop them to multiples"),
        ((2, None, 12, 3), "one known size", "pass position='none'"),
        ((2, 8, None, 3), "one known size", "Give the input its height and width"),
    ],
)
def test_image_shape_that_cannot_be(shape, rule, fix):
    with pytest.raises(ValueError, match=f"PatchEmbedding.*{rule}.*Received: images") as error:
        PatchEmbedding((4, 3), 8).build(shape)
    assert str(shape) in str(error.value)
    assert fix in str(error.value)


def test_other_image_size_than_the_positions(rng):
    layer = built(rng, data(rng))
    # As many patches, so that only the check can tell.
    with pytest.raises(ValueError, match=r"size \(8, 12\).*\(2, 16, 6, 3\).*Resize them first"):
        layer(data(rng, (2, 16, 6, 3)))


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"patch_size": 0}, "patch_size", "Pass a positive int"),
        ({"patch_size": None}, "patch_size", "Pass a positive int"),
        ({"patch_size": (4, 0)}, "patch_size", "Pass a positive int"),
        ({"patch_size": (4, 4, 4)}, "patch_size", "Pass for instance 16 or (16, 8)"),
        ({"embedding_dim": 8.0}, "embedding_dim", "Pass a positive int"),
        ({"num_class_tokens": -1}, "num_class_tokens", "a whole number from 0"),
        ({"num_class_tokens": True}, "num_class_tokens", "a whole number from 0"),
        ({"num_register_tokens": 1.5}, "num_register_tokens", "a whole number from 0"),
        ({"position": "sinusoidal"}, "position", "'learned', 'none'"),
        ({"dropout": 1.0}, "dropout", "Pass for instance 0.1"),
        ({"patchsize": 4}, "patchsize", "Did you mean `patch_size`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError, match="PatchEmbedding") as error:
        PatchEmbedding(**{"patch_size": 4, "embedding_dim": 8, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)
