"""Image converters against transformers and the installed Pillow, live."""

import json

import pytest

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
image_module = pytest.importorskip("PIL.Image")

import numpy as np  # noqa: E402

from keras_addnorm import zoo  # noqa: E402
from keras_addnorm.models.resampling import resize  # noqa: E402
from keras_addnorm.zoo.image_processing import (  # noqa: E402
    FILE,
    image_preprocessor_of,
    write_image_processor,
)
from tests.common import to_numpy  # noqa: E402
from tests.zoo import cases  # noqa: E402
from tests.zoo.common import HIDDEN_STATES  # noqa: E402
from tests.zoo.image_processors import PROCESSORS  # noqa: E402
from tests.zoo.make_reference import make_checkpoint  # noqa: E402
from tests.zoo.test_image_processing import encoder_config  # noqa: E402

PILLOW = {"bilinear": 2, "bicubic": 3, "lanczos3": 1}

# Rounding the first step moves the second by at most half of its absolute weights, which sum to 1
# to 1.5, and rounding that by another half: less than 1.5 from the exact value, on either side.
OTHER_ORDER = 2


def width_goes_first(old, new):
    """Whether every version of Pillow starts with the width, as measured on Pillow 13."""
    return new[0] >= old[0] or old[0] - new[0] <= 2 * (old[1] - new[1])


@pytest.mark.parametrize("name", PILLOW)
def test_resizing_is_that_of_pillow(rng, name):
    for _ in range(60):
        old, new = (tuple(int(n) for n in rng.integers(1, 90, 2)) for _ in range(2))
        # Black and white: the hardest, since both ends are clipped between the two steps.
        image = (255 * rng.integers(0, 2, (*old, 3))).astype("uint8")
        if not width_goes_first(old, new):
            image = image // 4 + 96  # Where nothing is clipped, only roundings differ.
        want = np.asarray(image_module.fromarray(image).resize(new[::-1], PILLOW[name]))
        difference = np.abs(resize(image, new, name).astype(int) - want).max()
        assert difference <= (0 if width_goes_first(old, new) else OTHER_ORDER), (old, new)


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_there_and_back(tmp_path, rng, name):
    cls, arguments = PROCESSORS[name]
    theirs = getattr(transformers, cls)(**arguments)
    theirs.save_pretrained(tmp_path / "a")
    ours = image_preprocessor_of(tmp_path / "a", encoder_config(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    write_image_processor(tmp_path / "b", ours.image_converter)
    settings = json.loads((tmp_path / "b" / FILE).read_text())
    again = getattr(transformers, settings["image_processor_type"] + "Pil")
    again = again.from_pretrained(tmp_path / "b")
    for width in (33, 50, 71):  # wide enough to be resized first
        image = rng.integers(0, 256, (20, width, 3)).astype("uint8")
        got = to_numpy(ours(image)["images"]).transpose(2, 0, 1)
        for processor in (theirs, again):
            want = processor(image, return_tensors="np")["pixel_values"][0]
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "model_type, case, processor, size",
    [
        ("vit", "labels", "vit", 12),
        ("deit", "teacher", "deit", 12),
        ("dinov2", "classifier", "bit", 12),  # interpolated: the checkpoint has positions for 8
        ("dinov2_with_registers", "classifier", "bit", 4),
    ],
)
def test_from_pixels_to_logits_and_back(tmp_path, rng, model_type, case, processor, size):
    module = cases.module_of(model_type)
    architecture, keys = module.CASES[case]
    keys = {**keys, "num_channels": 3, "patch_size": 4}
    theirs, _ = make_checkpoint(module, (architecture, keys), tmp_path / "a")
    shape = {"height": size, "width": size}
    cls, arguments = PROCESSORS[processor]
    arguments = {**arguments, **({"size": shape} if processor == "vit" else {"crop_size": shape})}
    convert = getattr(transformers, cls)(**arguments)
    convert.save_pretrained(tmp_path / "a")
    options = {"image_size": size} if "dino" in model_type else {}
    task = zoo.from_hugging_face(tmp_path / "a", task="auto", **options)
    images = [rng.integers(0, 256, (20, width, 3)).astype("uint8") for width in (33, 50)]
    pixels = convert(images, return_tensors="pt")
    want = theirs(**pixels).logits.detach().numpy()
    got = task.predict(images, verbose=0)
    assert np.abs(got - want).max() <= HIDDEN_STATES
    if options:  # Written with the interpolated table, which transformers then takes as it is.
        zoo.to_hugging_face(task, tmp_path / "b")
        again = type(theirs).from_pretrained(tmp_path / "b").eval()
        assert again.config.image_size == size
        again = again(**pixels).logits.detach().numpy()
        assert np.abs(again - want).max() <= HIDDEN_STATES
