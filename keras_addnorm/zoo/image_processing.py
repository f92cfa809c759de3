"""Hugging Face's settings for images, `preprocessor_config.json`, as an `ImageConverter`."""

import json
import math

from keras_addnorm.models import ImageClassifierPreprocessor, ImageConverter
from keras_addnorm.zoo.config import ConfigReader, key_of
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.sources import read_object

FILE = "preprocessor_config.json"
MAX_SIZE = 2**16

# Pillow's numbers of the kernels.
RESAMPLE = {1: "lanczos3", 2: "bilinear", 3: "bicubic"}

# What a class of transformers does where the file does not say it, and whether one number is the
# size of a square (or else the length of the shorter side).
_COMMON = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "do_center_crop": False,
    "crop_size": None,
}
_CROPPED = {**_COMMON, "do_center_crop": True, "crop_size": 224, "resample": 3}
_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
PROCESSORS = {
    "ViT": ({**_COMMON, "size": 224, "resample": 2}, True),
    "DeiT": ({**_CROPPED, "size": 256}, True),
    "Bit": ({**_CROPPED, **_CLIP, "size": 224}, False),
}
# The class where the file names none, by the model type in config.json.
DEFAULT_PROCESSORS = {"vit": "ViT", "deit": "DeiT", "dinov2": "Bit"}

# What the file is about, and how transformers runs it.
IGNORED_KEYS = frozenset(
    "image_processor_type feature_extractor_type processor_class _valid_processor_keys "
    "do_convert_rgb data_format input_data_format return_tensors device disable_grouping "
    "default_to_square image_seq_length".split()
)


def image_preprocessor_of(folder, encoder_config):
    """The preprocessor of a checkpoint of images.

    Args:
        folder: the checkpoint.
        encoder_config: the encoder's arguments; the preprocessor makes images of their shape.

    Raises:
        CheckpointError: listing all settings that cannot be honoured.
    """
    settings = read_object(folder, FILE)
    if not settings:
        problem = f"there is no {FILE}; pass preprocessor=None for a model of pixel values"
        raise CheckpointError(folder, [problem])
    defaults, is_square = PROCESSORS.get(_processor(folder, settings), (None, None))
    if defaults is None:
        names = ", ".join(f"{name}ImageProcessor" for name in PROCESSORS)
        raise CheckpointError(folder, [f"{FILE} must name one of {names}, got {_name(settings)!r}"])
    reader = ConfigReader({**defaults, **settings}, IGNORED_KEYS)
    arguments = _arguments(reader, is_square, encoder_config["image_shape"])
    problems = [f"{FILE}: {problem}" for problem in reader.finish()]
    if problems:
        raise CheckpointError(folder, problems)
    return ImageClassifierPreprocessor(ImageConverter(**arguments))


def _name(settings):
    return settings.get("image_processor_type", settings.get("feature_extractor_type"))


def _processor(folder, settings):
    """The key in `PROCESSORS` of the class that the file names."""
    name = _name(settings)
    if name is None:
        return DEFAULT_PROCESSORS.get(read_object(folder, "config.json").get("model_type"))
    name = str(name).removesuffix("Fast")
    return name.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")


def _arguments(reader, is_square, image_shape):
    """The arguments of `ImageConverter`."""
    reader.must_be("do_resize", True)
    for name in ("do_pad", "pad_size"):
        reader.must_be(name, None, False)
    size, crop = _size(reader, "size", is_square), None
    if reader.optional("do_center_crop", reader.flag):
        crop = _size(reader, "crop_size", True)
    else:
        reader.value("crop_size")
    resample = reader.integer("resample", high=max(RESAMPLE), low=min(RESAMPLE))
    scale, factor = 1.0, reader.number("rescale_factor", 1e-6, 1e6)
    if reader.optional("do_rescale", reader.flag):
        scale = factor
    made = size if crop is None else crop
    if list(image_shape[:2]) != made:
        reader.problems.append(
            f"it makes images of size {made}, the encoder takes {list(image_shape[:2])}: pass "
            "image_size=... to import the encoder for that size, or preprocessor=None"
        )
    smallest = [size] * 2 if isinstance(size, int) else size
    if crop is not None and any(c > s for c, s in zip(crop, smallest, strict=True)):
        reader.problems.append(f"`crop_size` {crop} is larger than `size` {size}")
    return {
        "image_size": made,
        "resize_to": size if crop is not None and size != crop else None,
        "interpolation": RESAMPLE[resample],
        "scale": scale,
        **_normalization(reader, image_shape[2]),
    }


def _size(reader, name, is_square):
    """`[height, width]`, or the length of the shorter side."""
    value = reader.value(name)
    if isinstance(value, dict):
        keys, values = sorted(value), list(value.values())
    else:
        keys, values = ["height", "width"] if is_square else ["shortest_edge"], [value]
    whole = [isinstance(n, int) and not isinstance(n, bool) and 0 < n <= MAX_SIZE for n in values]
    if not all(whole) or keys not in (["height", "width"], ["shortest_edge"]):
        reader.problems.append(
            f"`{name}` must be a whole number up to {MAX_SIZE}, height and width, or "
            f"shortest_edge, got {value!r}"
        )
        return [1, 1]
    if keys == ["shortest_edge"]:
        return values[0]
    return [value["height"], value["width"]] if isinstance(value, dict) else values * 2


def _normalization(reader, channels):
    mean, std = reader.value("image_mean"), reader.value("image_std")
    if not reader.optional("do_normalize", reader.flag):
        return {}
    for name, values in (("image_mean", mean), ("image_std", std)):
        values = values if isinstance(values, list) else [values] * channels
        real = [isinstance(x, (int, float)) and math.isfinite(x) for x in values]
        if not all(real) or len(values) != channels or (name == "image_std" and 0 in values):
            reader.problems.append(f"`{name}` must be {channels} numbers, got {values!r}")
    return {"mean": mean, "std": std}


def write_image_processor(folder, converter):
    """Writes the file that makes transformers convert images as an `ImageConverter` does."""
    kind, size = "DeiT", converter.resize_to
    if size is None:
        kind, size = "ViT", converter.image_size
    elif isinstance(size, int):
        kind, size = "Bit", {"shortest_edge": size}
    settings = {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_resize": True,
        "size": size if isinstance(size, dict) else _height_width(size),
        "resample": key_of(RESAMPLE, converter.interpolation),
        "do_rescale": True,
        "rescale_factor": converter.scale,
        "do_normalize": (converter.mean, converter.std) != (0.0, 1.0),
        "image_mean": converter.mean,
        "image_std": converter.std,
    }
    if kind != "ViT":
        crop = {"do_center_crop": True, "crop_size": _height_width(converter.image_size)}
        settings = {**settings, **crop}
    text = json.dumps(settings, indent=2, sort_keys=True, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def _height_width(size):
    return {"height": size[0], "width": size[1]}
