"""ImageConverter and its preprocessor: values, containers, graphs, files, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm.models import ImageClassifierPreprocessor, ImageConverter, ImageEncoder
from keras_addnorm.models.resampling import KERNELS, resize
from tests.common import TINY_IMAGE_ENCODER, to_numpy

OPTIONS = {"image_size": (6, 8), "resize_to": 10, "interpolation": "bicubic", "std": [0.5, 2, 1]}


def pixels(rng, *shape):
    return rng.integers(0, 256, shape).astype("uint8")


def kernel(name, x):
    x = abs(x)
    if name == "bilinear":
        return max(1 - x, 0)
    if name == "lanczos3":
        return float(np.sinc(x) * np.sinc(x / 3)) if x < 3 else 0.0
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def plain_resize(line, new, name):
    """The sum of the docstring, for a list of numbers."""
    scale = len(line) / new
    result = []
    for i in range(new):
        center = (i + 0.5) * scale
        weights = [kernel(name, (j + 0.5 - center) / max(scale, 1)) for j in range(len(line))]
        result.append(sum(w * x for w, x in zip(weights, line, strict=True)) / sum(weights))
    return result


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("old, new", [((5, 9), (3, 4)), ((4, 3), (7, 3)), ((6, 2), (1, 5))])
def test_resizing_of_floats(rng, name, old, new):
    image = rng.normal(size=(*old, 2))
    wide = np.apply_along_axis(plain_resize, 1, image, new[1], name)
    want = np.apply_along_axis(plain_resize, 0, wide, new[0], name)
    # The same sums in float64, in another order.
    np.testing.assert_allclose(resize(image, new, name), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", KERNELS)
def test_whole_numbers_are_rounded_after_each_axis(rng, name):
    image = pixels(rng, 9, 14, 3)
    wide = np.apply_along_axis(plain_resize, 1, image.astype("float64"), 5, name)
    wide = np.clip(np.floor(wide + 0.5), 0, 255)
    want = np.apply_along_axis(plain_resize, 0, wide, 4, name)
    got = resize(image, (4, 5), name)
    assert got.dtype == "uint8"
    np.testing.assert_array_equal(got, np.clip(np.floor(want + 0.5), 0, 255))


@pytest.mark.parametrize("shape, resized", [((20, 12, 3), (16, 10)), ((11, 30, 3), (10, 27))])
def test_the_shorter_side_is_resized_and_the_middle_cropped(rng, shape, resized):
    image = pixels(rng, *shape)
    top, left = (resized[0] - 6) // 2, (resized[1] - 8) // 2
    cropped = resize(image, resized, "bicubic")[top : top + 6, left : left + 8]
    got = to_numpy(ImageConverter(**OPTIONS, mean=0.25)(image))
    want = (cropped / 255 - 0.25) / np.array([0.5, 2, 1])
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)  # float32
    assert got.dtype == "float32"


def test_containers(rng):
    converter = ImageConverter(**OPTIONS)
    images = [pixels(rng, 20, 12, 3), pixels(rng, 9, 33, 3)]
    want = np.stack([to_numpy(converter(image)) for image in images])
    assert want.shape == (2, 6, 8, 3)
    for given in (images, tuple(images), {"images": images, "id": 1}):
        got = converter(given)
        assert not isinstance(given, dict) or got["id"] == 1
        got = got["images"] if isinstance(given, dict) else got
        np.testing.assert_array_equal(to_numpy(got), want)
    batch = np.stack([images[0]] * 2)
    for given in (batch, batch.astype("int64"), keras.ops.convert_to_tensor(batch)):
        np.testing.assert_array_equal(to_numpy(converter(given)), want[[0, 0]])


def test_in_a_graph_of_tensorflow(rng):
    preprocessor = ImageClassifierPreprocessor(ImageConverter(**OPTIONS))
    images, labels = pixels(rng, 4, 9, 17, 3), np.arange(4)
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    for pipeline in (data.batch(2).map(preprocessor), data.map(preprocessor).batch(2)):
        assert pipeline.element_spec[0]["images"].shape.as_list() == [None, 6, 8, 3]
        x, y = zip(*pipeline, strict=True)
        got, want = [part["images"] for part in x], preprocessor(images)["images"]
        np.testing.assert_array_equal(np.concatenate(got), to_numpy(want))
        np.testing.assert_array_equal(np.concatenate(y), labels)


def test_labels_pass_through(rng):
    preprocessor = ImageClassifierPreprocessor(ImageConverter(4))
    x, y, weight = preprocessor([pixels(rng, 5, 5, 3)], [1], [0.5])
    assert x["images"].shape == (1, 4, 4, 3) and (y, weight) == ([1], [0.5])


def test_config_and_preset(rng, tmp_path):
    preprocessor = ImageClassifierPreprocessor(ImageConverter(**OPTIONS, mean=[0.1, 0.2, 0.3]))
    image = pixels(rng, 20, 12, 3)
    ImageEncoder(**TINY_IMAGE_ENCODER).save_to_preset(tmp_path)
    preprocessor.save_to_preset(tmp_path)
    for again in (
        ImageClassifierPreprocessor.from_config(preprocessor.get_config()),
        ImageClassifierPreprocessor.from_preset(str(tmp_path)),
    ):
        assert type(again.image_converter) is ImageConverter
        got, want = again(image)["images"], preprocessor(image)["images"]
        np.testing.assert_array_equal(to_numpy(got), to_numpy(want))
    assert preprocessor.image_size == (6, 8)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"image_size": 0}, "`image_size` must be a whole number"),
        ({"image_size": (1, 2, 3)}, "`image_size` must be an int or a pair"),
        ({"resize_to": 7}, "`resize_to` must be at least `image_size`"),
        ({"resize_to": (6, 7)}, "`resize_to` must be at least `image_size`"),
        ({"interpolation": "nearest"}, "`interpolation` must be"),
        ({"scale": 0}, "`scale` must be above 0"),
        ({"mean": "imagenet"}, "`mean` must be a finite number"),
        ({"std": [1, 0, 1]}, "must not be 0"),
        ({"offset": 1.0}, "ImageConverter has no argument `offset`"),
    ],
)
def test_bad_arguments(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        ImageConverter(**{**OPTIONS, **arguments})


@pytest.mark.parametrize(
    "images, reason",
    [
        (np.zeros((4, 4), "uint8"), r"Received: images of shape \(4, 4\). Add the axis"),
        (np.full((4, 4, 3), 256), "from 0 to 255. Received: values from 256 to 256"),
        (np.full((4, 4, 3), -1), "from 0 to 255. Received: values from -1 to -1"),
    ],
)
def test_bad_images(images, reason):
    with pytest.raises(ValueError, match=reason):
        ImageConverter(4)(images)
