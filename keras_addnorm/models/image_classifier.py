"""Classes of images."""

import keras
from keras_hub import models as hub

from keras_addnorm.models.classifier import Classifier
from keras_addnorm.models.image_encoder import ImageEncoder
from keras_addnorm.models.pooling import pool_features


@keras.saving.register_keras_serializable(package="keras_addnorm")
class ImageClassifier(Classifier, hub.ImageClassifier):
    """Encoder of images, pooling, and a head with an output for each class.

        output = activation(head(pooling(encoder(images))))

    A KerasHub `ImageClassifier` task: `predict`, `fit` and `classify` take arrays of images. ViT
    and DeiT are the default; DeiT with a teacher is `pooling=["cls", "distillation"]` (its two
    linear heads, averaged, are one of both tokens), DINOv2 `pooling=["cls", "mean"]`.

    Args:
        backbone: the encoder, an `ImageEncoder`.
        num_classes: int, number of classes.
        preprocessor: a preprocessor of images, or None.
        pooling: `"cls"` (the first class token), `"distillation"` (the second), `"mean"` or
            `"max"` over the patches without class and register tokens, or `"pooler"`, the
            encoder's own; or a list of such names, whose vectors are joined.
        activation, dropout, labels, head_options, head_dtype: as in `TextClassifier`.

    Inputs (a dict, or an array of images):
        images: float `(batch, height, width, channels)`.

    Output shape:
        `(batch, num_classes)`; float32 in mixed precision.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    task = ImageClassifier(ImageEncoder((224, 224, 3)), num_classes=1000)
    task.classify(images, top_k=5)
    ```

    Source: Dosovitskiy et al., arXiv:2010.11929, section 3.1; distillation: Touvron et al.,
    arXiv:2012.12877; class token and mean: Oquab et al., arXiv:2304.07193, appendix B.
    """

    backbone_cls = ImageEncoder
    preprocessor_cls = None

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
        **kwargs,
    ):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        features = pool_features("ImageClassifier", backbone, pooling, _poolings(backbone))
        outputs = self._class_outputs(
            features, num_classes, activation, dropout, labels, head_options, head_dtype
        )
        # Not KerasHub's `ImageClassifier.__init__`, which builds a head of its own.
        hub.Task.__init__(self, inputs=backbone.input, outputs=outputs, **kwargs)
        self.pooling = pooling

    def preprocess_samples(self, x, y=None, sample_weight=None):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
            super().preprocess_samples(x, y, sample_weight)
        )
        x = x if isinstance(x, dict) else {"images": x}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def get_config(self):
        pooling = self.pooling if isinstance(self.pooling, str) else list(self.pooling)
        return {**super().get_config(), "pooling": pooling}


def _poolings(backbone):
    """The arguments of `SequencePooling` by name, as far as the encoder has such tokens."""
    embeddings = backbone.get_layer("embeddings")
    tokens = [{"pooling": "cls"}, {"pooling": "cls", "skip": 1}][: embeddings.num_class_tokens]
    skip = embeddings.num_class_tokens + embeddings.num_register_tokens
    patches = {name: {"pooling": name, "skip": skip} for name in ("mean", "max")}
    return {**dict(zip(("cls", "distillation"), tokens, strict=False)), **patches}
