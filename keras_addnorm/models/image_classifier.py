"""Classes of images."""

import keras
from keras_hub import models as hub

from keras_addnorm.models.classifier import Classifier
from keras_addnorm.models.image_classifier_preprocessor import ImageClassifierPreprocessor
from keras_addnorm.models.image_encoder import ImageEncoder
from keras_addnorm.models.pooling import pool_each, pool_features


@keras.saving.register_keras_serializable(package="keras_addnorm")
class ImageClassifier(Classifier, hub.ImageClassifier):
    """Encoder of images, pooling, and a head with an output for each class.

        output = activation(head(pooling(encoder(images))))

    A KerasHub `ImageClassifier` task: `predict`, `fit` and `classify` take arrays of images. ViT
    and DeiT are the default; DeiT with a teacher is `distilled=True`, DINOv2
    `pooling=["cls", "mean"]`.

    Args:
        backbone: the encoder, an `ImageEncoder`.
        num_classes: int, number of classes.
        preprocessor: an `ImageClassifierPreprocessor`, or None for a model of pixel values.
        pooling: `"cls"` (the first class token), `"distillation"` (the second), `"mean"` or
            `"max"` over the patches without class and register tokens, or `"pooler"`, the
            encoder's own; or a list of such names, whose vectors are joined.
        activation, dropout, labels, head_options, head_dtype: as in `TextClassifier`.
        distilled: bool, whether the distillation token has a head of its own, and the output is
            the average of the two heads: `head` and `distillation_head`.

    Inputs (a dict, or an array of images):
        images: float `(batch, height, width, channels)`.

    Output shape:
        `(batch, num_classes)`; float32 in mixed precision.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    preprocessor = ImageClassifierPreprocessor(ImageConverter(224, mean=0.5, std=0.5))
    task = ImageClassifier(ImageEncoder((224, 224, 3)), 1000, preprocessor)
    task.classify([photo, other_photo], top_k=5)
    ```

    Source: Dosovitskiy et al., arXiv:2010.11929, section 3.1; distillation: Touvron et al.,
    arXiv:2012.12877; class token and mean: Oquab et al., arXiv:2304.07193, appendix B.
    """

    backbone_cls = ImageEncoder
    preprocessor_cls = ImageClassifierPreprocessor

    def __init__(
        self,
        backbone,
        num_classes,
        preprocessor=None,
        pooling="cls",
        activation=None,
        dropout=0.0,
        labels=None,
        head_options=None,
        head_dtype=None,
        distilled=False,
        **kwargs,
    ):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.distilled = bool(distilled)
        features = self._features(pooling)
        outputs = self._class_outputs(
            features, num_classes, activation, dropout, labels, head_options, head_dtype
        )
        # Not KerasHub's `ImageClassifier.__init__`, which builds a head of its own.
        hub.Task.__init__(self, inputs=backbone.input, outputs=outputs, **kwargs)
        self.pooling = pooling

    def _features(self, pooling):
        owner, choices = "ImageClassifier", _poolings(self.backbone)
        if not self.distilled:
            return pool_features(owner, self.backbone, pooling, choices)
        if pooling != "cls" or "distillation" not in choices:
            raise ValueError(
                f"{owner}: `distilled` gives the class token and the distillation token a head "
                "each, so the encoder must have both and the pooling is 'cls'. "
                f"Received: pooling={pooling!r}, an encoder with {', '.join(map(repr, choices))}. "
                "Pass embedding_options={'num_class_tokens': 2} to the encoder."
            )
        features = pool_each(owner, self.backbone, ["cls", "distillation"], choices)
        return dict(zip(("head", "distillation_head"), features, strict=True))

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`; with a preprocessor also for a list of images of any sizes."""
        if self.preprocessor is None or not isinstance(x, (list, tuple)):
            return super().predict(x, *args, **kwargs)
        return keras.Model.predict(self, self.preprocess_samples(list(x)), *args, **kwargs)

    def preprocess_samples(self, x, y=None, sample_weight=None):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
            super().preprocess_samples(x, y, sample_weight)
        )
        x = x if isinstance(x, dict) else {"images": x}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def get_config(self):
        pooling = self.pooling if isinstance(self.pooling, str) else list(self.pooling)
        return {**super().get_config(), "pooling": pooling, "distilled": self.distilled}


def _poolings(backbone):
    """The arguments of `SequencePooling` by name, as far as the encoder has such tokens."""
    embeddings = backbone.get_layer("embeddings")
    tokens = [{"pooling": "cls"}, {"pooling": "cls", "skip": 1}][: embeddings.num_class_tokens]
    skip = embeddings.num_class_tokens + embeddings.num_register_tokens
    patches = {name: {"pooling": name, "skip": skip} for name in ("mean", "max")}
    return {**dict(zip(("cls", "distillation"), tokens, strict=False)), **patches}
