"""Learned positions for images of another size than the checkpoint's."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import keras_addnorm
from keras_addnorm import zoo
from keras_addnorm.zoo.positions import interpolate
from tests.common import to_numpy
from tests.zoo.common import DATA

GRIDS = [((4, 4), (2, 2)), ((3, 2), (5, 7)), ((1, 1), (3, 2)), ((5, 5), (1, 1)), ((7, 3), (2, 9))]
NAMES = ["vit_plain", "deit_plain", "dinov2_plain", "dinov2_with_registers_plain"]


def cubic(x, a):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def along(line, new):
    """Plain bicubic interpolation of a list of vectors: what lies beyond an edge is the edge."""
    result = []
    for i in range(new):
        x = (i + 0.5) * len(line) / new - 0.5
        left = int(np.floor(x))
        result.append(
            sum(
                cubic(x - j, -0.75) * line[min(max(j, 0), len(line) - 1)]
                for j in range(left - 1, left + 3)
            )
        )
    return np.array(result)


@pytest.mark.parametrize("old, new", GRIDS)
def test_values(rng, old, new):
    table = rng.normal(size=(1, 2 + old[0] * old[1], 3)).astype("float32")
    grid = table[0, 2:].reshape(*old, 3).astype("float64")
    want = np.stack([along(row, new[1]) for row in along(grid, new[0])])
    got = interpolate(table, old, new, antialias=False)
    np.testing.assert_array_equal(got[:, :2], table[:, :2])  # the class tokens' positions
    np.testing.assert_allclose(got[0, 2:].reshape(*new, 3), want, rtol=1e-6, atol=1e-6)


def test_antialiasing_averages_where_the_grid_shrinks():
    """Alternating positions: without antialiasing they are sampled, with it they cancel."""
    table = np.where(np.arange(64) % 2, 1.0, -1.0).reshape(1, 64, 1).astype("float32")
    sampled = interpolate(table, (1, 64), (1, 8), antialias=False)
    averaged = interpolate(table, (1, 64), (1, 8), antialias=True)
    assert np.abs(averaged).max() < 0.05
    np.testing.assert_allclose(interpolate(table + 3, (1, 64), (1, 8), True), averaged + 3, 1e-5)
    assert averaged.shape == sampled.shape == (1, 8, 1)


@pytest.mark.parametrize("name", NAMES)
def test_import_with_another_image_size(rng, name):
    encoder = zoo.from_hugging_face(DATA / name, image_size=(8, 16))
    assert encoder.image_shape == (8, 16, 3)
    images = rng.normal(size=(2, 8, 16, 3)).astype("float32")
    embeddings = encoder.get_layer("embeddings")
    tokens = embeddings.num_class_tokens + embeddings.num_register_tokens
    assert encoder({"images": images})["sequence_output"].shape == (2, tokens + 2 * 4, 16)
    theirs = load_file(DATA / name / "model.safetensors")["embeddings.position_embeddings"]
    table = interpolate(theirs, (3, 3), (2, 4), name.startswith("dinov2_with"))
    (ours,) = [w for w in encoder.weights if w.path.endswith("position_embeddings")]
    np.testing.assert_array_equal(to_numpy(ours), table[0])


def test_the_checkpoints_own_image_size_changes_nothing():
    same = zoo.from_hugging_face(DATA / "vit_plain", image_size=12)
    for a, b in zip(same.weights, zoo.from_hugging_face(DATA / "vit_plain").weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_presets_take_an_image_size(tmp_path):
    name = "vit_tiny_patch16_224"
    assert keras_addnorm.from_preset(name, image_size=(32, 48)).image_shape == (32, 48, 3)
    encoder = keras_addnorm.from_preset(DATA / "vit_plain", image_size=8)
    assert encoder.image_shape == (8, 8, 3)
    encoder.save_to_preset(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match="has the size it was saved with.*Leave it out"):
        keras_addnorm.from_preset(tmp_path / "saved", image_size=8)


@pytest.mark.parametrize(
    "name, size",
    [("bert_plain", 8), ("vit_plain", 0), ("vit_plain", "8"), ("vit_plain", (8, 8, 8))],
)
def test_no_size_of_images_is_refused(name, size):
    with pytest.raises(ValueError, match="`image_size` must be an int or a pair"):
        zoo.from_hugging_face(DATA / name, image_size=size)


def test_images_are_whole_patches():
    with pytest.raises(ValueError, match="whole patches of 4 x 4"):
        zoo.from_hugging_face(DATA / "vit_plain", image_size=10)
