"""preprocessor_config.json: read and written as transformers does, or refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_addnorm import zoo
from keras_addnorm.zoo import CheckpointError
from keras_addnorm.zoo.image_processing import (
    FILE,
    image_preprocessor_of,
    write_image_processor,
)
from tests.common import to_numpy
from tests.zoo.common import DATA, copy_checkpoint
from tests.zoo.image_processors import PROCESSORS

FOLDER = DATA / "image_processors"


def encoder_config(folder):
    """The arguments of an encoder of what the settings make."""
    settings = json.loads((folder / FILE).read_text())
    size = settings["crop_size" if settings.get("do_center_crop") else "size"]
    return {"image_shape": [size["height"], size["width"], 3]}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_transformers(name):
    reference = load_file(FOLDER / "reference.safetensors")
    preprocessor = image_preprocessor_of(FOLDER / name, encoder_config(FOLDER / name))
    got = to_numpy(preprocessor(reference["image"])["images"])
    # The same operations in the same precision.
    np.testing.assert_array_equal(got.transpose(2, 0, 1), reference[name])


@pytest.mark.parametrize("name", PROCESSORS)
def test_written_settings_read_the_same(tmp_path, name):
    preprocessor = image_preprocessor_of(FOLDER / name, encoder_config(FOLDER / name))
    write_image_processor(tmp_path, preprocessor.image_converter)
    again = image_preprocessor_of(tmp_path, encoder_config(FOLDER / name))
    before, after = (p.image_converter.get_config() for p in (preprocessor, again))
    assert after == {**before, "name": after["name"]}


def write(folder, **settings):
    (folder / FILE).write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    "settings, resize_to, interpolation",
    [
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 8}, None, "bilinear"),
        ({"image_processor_type": "ViTImageProcessorFast", "size": 8}, None, "bilinear"),
        ({"image_processor_type": "DeiTImageProcessor", "size": 9, "crop_size": 8}, (9, 9), None),
        ({"image_processor_type": "BitImageProcessor", "size": 9, "crop_size": 8}, 9, None),
        ({"image_processor_type": "BitImageProcessorFast", "size": 8, "crop_size": 8}, 8, None),
    ],
)
def test_older_files(tmp_path, settings, resize_to, interpolation):
    folder = write(tmp_path, **settings)
    converter = image_preprocessor_of(folder, {"image_shape": [8, 8, 3]}).image_converter
    assert converter.resize_to == resize_to
    assert converter.interpolation == (interpolation or "bicubic")


@pytest.mark.parametrize("model_type, resize_to", [("vit", None), ("deit", (256, 256))])
def test_a_file_without_a_class(tmp_path, model_type, resize_to):
    write(tmp_path, do_resize=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    converter = image_preprocessor_of(tmp_path, {"image_shape": [224, 224, 3]}).image_converter
    assert converter.resize_to == resize_to


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"do_resize": False}, "`do_resize` is supported only as True"),
        ({"do_pad": True}, "`do_pad` is supported only as None or False"),
        ({"size": {"longest_edge": 8}}, "`size` must be"),
        ({"size": {"height": 8, "width": True}}, "`size` must be"),
        ({"size": {"height": 8, "width": 10**9}}, "`size` must be"),
        ({"size": None}, "`size` must be"),
        ({"size": {"height": 8, "width": 9}}, r"makes images of size \[8, 9\].*pass image_size"),
        ({"size": {"shortest_edge": 8}}, "makes images of size 8"),
        ({"do_center_crop": True, "crop_size": 9}, r"`crop_size` \[9, 9\] is larger than `size`"),
        ({"do_center_crop": 1}, "`do_center_crop` must be true or false"),
        ({"resample": 0}, "`resample` must be a whole number from 1 to 3"),
        ({"resample": 4}, "`resample` must be a whole number from 1 to 3"),
        ({"rescale_factor": "1/255"}, "`rescale_factor` must be a number"),
        ({"image_mean": [0.5]}, "`image_mean` must be 3 numbers"),
        ({"image_std": [1, 0, 1]}, "`image_std` must be 3 numbers"),
        ({"image_std": ["1", 1, 1]}, "`image_std` must be 3 numbers"),
        ({"do_flip": True}, "`do_flip` is not understood"),
        ({"image_processor_type": "CLIPImageProcessor"}, "must name one of ViTImageProcessor"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path, settings, reason):
    whole = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
    write(tmp_path, **{**whole, **settings})
    with pytest.raises(CheckpointError, match=reason) as caught:
        image_preprocessor_of(tmp_path, {"image_shape": [8, 8, 3]})
    assert all(FILE in problem for problem in caught.value.problems)


def classifier(tmp_path, name="vit_labels", **settings):
    """A checkpoint of a classifier of images of 12 x 12 pixels, with its settings."""
    folder = copy_checkpoint(tmp_path, name)
    kind = "BitImageProcessor" if "dinov2" in name else "ViTImageProcessor"
    return write(folder, image_processor_type=kind, **settings)


def test_a_classifier_brings_its_preprocessor(tmp_path, rng):
    folder = classifier(tmp_path, size={"height": 12, "width": 12}, resample=3)
    task = zoo.from_hugging_face(folder, task="auto")
    images = [rng.integers(0, 256, (*size, 3)).astype("uint8") for size in ((20, 33), (9, 14))]
    logits = to_numpy(task({"images": task.preprocessor(images)}))
    assert [row[0][0] for row in task.classify(images)] == [
        ("cat", "dog", "mat")[i] for i in logits.argmax(-1)
    ]
    zoo.to_hugging_face(task, tmp_path / "back")
    again = zoo.from_hugging_face(tmp_path / "back", task="auto")
    np.testing.assert_array_equal(to_numpy(again({"images": again.preprocessor(images)})), logits)


def test_dinov2_is_imported_for_the_size_of_its_preprocessor(tmp_path):
    settings = {"image_mean": [0.5] * 2, "image_std": [0.5] * 2, "size": 5, "crop_size": 4}
    folder = classifier(tmp_path, "dinov2_with_registers_classifier", **settings)
    with pytest.raises(CheckpointError, match=r"of size \[4, 4\], the encoder takes \[8, 8\]"):
        zoo.from_hugging_face(folder, task="auto")
    task = zoo.from_hugging_face(folder, task="auto", image_size=4)
    image = np.zeros((7, 9, 2), "uint8")
    assert task({"images": task.preprocessor(image[None])}).shape == (1, 2)


def test_without_a_file(tmp_path):
    with pytest.raises(CheckpointError, match="pass preprocessor=None for a model of pixel values"):
        image_preprocessor_of(tmp_path, {"image_shape": [8, 8, 3]})
