"""From images to the inputs of an `ImageClassifier`."""

import keras
from keras_hub import models as hub

from keras_addnorm.models.image_converter import ImageConverter
from keras_addnorm.models.image_encoder import ImageEncoder


@keras.saving.register_keras_serializable(package="keras_addnorm")
class ImageClassifierPreprocessor(hub.ImageClassifierPreprocessor):
    """Converts images for an `ImageClassifier`, and passes labels through.

    Args:
        image_converter: an `ImageConverter`.

    Call arguments:
        x: images, as `ImageConverter` takes them.
        y, sample_weight: passed through.

    Output shape:
        A dict of `images`, the inputs of the task, each of the converter's shape; with `y`, a
        tuple of it and `y`.

    Example:

    ```python
    preprocessor = ImageClassifierPreprocessor(ImageConverter(224, mean=0.5, std=0.5))
    inputs, labels = preprocessor(photos, labels)
    ```
    """

    backbone_cls = ImageEncoder
    image_converter_cls = ImageConverter

    def call(self, x, y=None, sample_weight=None):
        # Not KerasHub's `call`, which makes one tensor of images of several sizes.
        x = self.image_converter(x)
        x = x if isinstance(x, dict) else {"images": x}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
