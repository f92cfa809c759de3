"""From pixels of any size to the inputs of an `ImageEncoder`."""

import keras
import numpy as np
from keras_hub import layers as hub

from keras_addnorm.layers import checks
from keras_addnorm.models import graph
from keras_addnorm.models.image_encoder import ImageEncoder
from keras_addnorm.models.resampling import KERNELS, resize


@keras.saving.register_keras_serializable(package="keras_addnorm")
class ImageConverter(hub.ImageConverter):
    """Resizes, crops, scales and normalizes images, as Hugging Face's image processors do.

        output = (center_crop(resize(images)) * scale - mean) / std

    Resizing is antialiased, and of whole numbers rounded to whole numbers, as Pillow does it.
    The work is done by numpy; in a TensorFlow graph, such as that of `tf.data.Dataset.map`,
    through `tf.numpy_function`.

    Args:
        image_size: int, or a pair of ints (height, width), the size of the outputs.
        resize_to: a pair of ints (height, width) that images are resized to before they are
            cropped; or an int, the length of their shorter side, which keeps the aspect ratio.
            Default: `image_size`, so that nothing is cropped.
        interpolation: `"bilinear"`, `"bicubic"` or `"lanczos3"`.
        scale: float above 0.
        mean: float, or a list of one a channel.
        std: float, or a list of one a channel; not 0.

    Call arguments:
        images: `(height, width, channels)` or `(batch, height, width, channels)`, or a list of
            images of several sizes; whole numbers from 0 to 255, or floats, which are not
            rounded. In a dict with the key `"images"`, or bare.

    Output shape:
        float32 `(batch, *image_size, channels)`, without batch for a single image.

    Raises:
        ValueError: on an invalid argument, images of another rank, and whole numbers that are not
            from 0 to 255.

    Example:

    ```python
    converter = ImageConverter(224, resize_to=256, interpolation="bicubic", mean=0.5, std=0.5)
    converter([photo, other_photo])  # (2, 224, 224, 3)
    ```
    """

    backbone_cls = ImageEncoder

    def __init__(
        self,
        image_size,
        resize_to=None,
        interpolation="bilinear",
        scale=1 / 255,
        mean=0.0,
        std=1.0,
        **kwargs,
    ):
        owner = "ImageConverter"
        checks.known_arguments(ImageConverter, kwargs)
        image_size = _pair(owner, "image_size", image_size)
        scale = checks.positive(owner, "scale", scale)
        layout = {"crop_to_aspect_ratio": False, "data_format": "channels_last"}
        super().__init__(image_size, scale=scale, **layout, **kwargs)
        self.resize_to = _resize_to(owner, resize_to, image_size)
        self.interpolation = checks.choice(owner, "interpolation", interpolation, KERNELS)
        self.mean = _per_channel(owner, "mean", mean)
        self.std = _per_channel(owner, "std", std)
        if not np.all(self.std):
            raise ValueError(
                f"{owner}: `std` divides, so it must not be 0. Received: std={std!r}. Pass 1.0."
            )

    def call(self, inputs):
        if isinstance(inputs, dict):
            return {**inputs, "images": self.call(inputs["images"])}
        if not graph.in_graph():
            return keras.ops.convert_to_tensor(self._convert(inputs))
        shape = (*inputs.shape[:-3], *self.image_size, inputs.shape[-1])
        (outputs,) = graph.call_in_graph(
            lambda images: [self._convert(images)], [inputs], [keras.KerasTensor(shape, "float32")]
        )
        return outputs

    def _convert(self, images):
        if isinstance(images, (list, tuple)):
            return np.stack([self._convert(image) for image in images])
        images = _array(images)
        images = resize(images, self._size(*images.shape[-3:-1]), self.interpolation)
        (height, width), (h, w) = images.shape[-3:-1], self.image_size
        top, left = (height - h) // 2, (width - w) // 2
        images = images[..., top : top + h, left : left + w, :]
        # In the precisions and the order of Hugging Face's.
        images = (images.astype("float64") * self.scale).astype("float32")
        return (images - np.float32(self.mean)) / np.float32(self.std)

    def _size(self, height, width):
        """What an image of this size is resized to."""
        if not isinstance(self.resize_to, int):
            return self.resize_to or self.image_size
        short, long = self.resize_to, int(self.resize_to * max(height, width) / min(height, width))
        return (long, short) if height >= width else (short, long)

    def get_config(self):
        config = super().get_config()
        # Arguments of KerasHub's class that this one has not.
        for name in ("offset", "antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio"):
            del config[name]
        del config["bounding_box_format"]
        return {**config, "resize_to": self.resize_to, "mean": self.mean, "std": self.std}


def _array(images):
    """Images as uint8 where they are whole numbers, else as they are."""
    images = np.asarray(keras.ops.convert_to_numpy(images) if _is_tensor(images) else images)
    if images.ndim not in (3, 4):
        raise ValueError(
            "ImageConverter: images must have shape (height, width, channels) or (batch, height, "
            f"width, channels). Received: images of shape {images.shape}. Add the axis of channels."
        )
    if images.dtype.kind not in "iu":
        return images
    if images.size and not (images.min() >= 0 and images.max() <= 255):
        raise ValueError(
            "ImageConverter: images of whole numbers must be from 0 to 255. Received: values from "
            f"{images.min()} to {images.max()}. Pass floats for another range."
        )
    return images.astype("uint8")


def _is_tensor(x):
    return not isinstance(x, np.ndarray) and keras.ops.is_tensor(x)


def _pair(owner, name, size):
    sizes = size if isinstance(size, (list, tuple)) else (size, size)
    if len(sizes) != 2:
        raise ValueError(
            f"{owner}: `{name}` must be an int or a pair of ints (height, width). "
            f"Received: {name}={size!r}. Pass for instance 224."
        )
    return tuple(checks.positive_int(owner, name, n, limit=2**16) for n in sizes)


def _resize_to(owner, value, image_size):
    if value is None:
        return None
    pair = _pair(owner, "resize_to", value)
    if pair[0] < image_size[0] or pair[1] < image_size[1]:
        raise ValueError(
            f"{owner} crops what it has resized, so `resize_to` must be at least `image_size`. "
            f"Received: resize_to={value!r}, image_size={image_size}. Pass a larger one, or None."
        )
    return pair if isinstance(value, (list, tuple)) else pair[0]


def _per_channel(owner, name, value):
    if isinstance(value, (list, tuple)) and value:
        return [checks.finite(owner, name, x) for x in value]
    return checks.finite(owner, name, value)
