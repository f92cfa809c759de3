"""Sentence embeddings from an encoder."""

import keras
from keras_hub import models as hub

from keras_addnorm.layers import SequencePooling
from keras_addnorm.models.task import EncoderTask
from keras_addnorm.models.text_embedder_preprocessor import TextEmbedderPreprocessor


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TextEmbedder(EncoderTask, hub.TextEmbedder):
    """Encoder, pooling over unpadded positions, and Euclidean normalization.

        embedding = normalize(pooling(encoder(token_ids, padding_mask))[:output_dim])

    A KerasHub `TextEmbedder` task: with a preprocessor, `encode_text(["..."])`, `predict` and
    `fit` take strings.

    Args:
        backbone: the encoder, a `TransformerEncoder`.
        pooling: `"mean"`, `"cls"` (the first position), `"max"`, `"last"` (the last unpadded
            position) or `"weighted_mean"` (weights 1, 2, ... by position).
        normalize: bool, whether embeddings have length 1, so that a dot product is a cosine.
        preprocessor: a `TextEmbedderPreprocessor`, or None for a model of token ids.
        output_dim: int, features to keep, from the first on: Matryoshka embeddings, trained to be
            cut so (sentence-transformers' `truncate_dim`). Default: all.

    Inputs (a dict):
        Those of the backbone.

    Output shape:
        `(batch, hidden_dim)`, or `(batch, output_dim)`.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    embedder = keras_addnorm.zoo.from_hugging_face("minilm", task="embed")
    embedder.encode_text(["A cat sits on the mat."])  # (1, 384)
    ```

    Source: Reimers and Gurevych, arXiv:1908.10084; output_dim: Kusupati et al., arXiv:2205.13147.
    """

    preprocessor_cls = TextEmbedderPreprocessor

    def __init__(
        self,
        backbone,
        pooling="mean",
        normalize=True,
        preprocessor=None,
        output_dim=None,
        **kwargs,
    ):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        inputs = backbone.input
        pool = SequencePooling(
            pooling,
            normalize,
            output_dim=output_dim,
            dtype=backbone.dtype_policy,
            name="embedding",
        )
        outputs = pool(backbone(inputs)["sequence_output"], padding_mask=inputs["padding_mask"])
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.pooling = pooling
        self.normalize = normalize
        self.output_dim = output_dim

    def encode_text(self, text, verbose=0, **kwargs):
        """Embeds a string or a list of strings.

        Args:
            text: string or list of strings.
            verbose: whether `predict` shows its progress bar.
            **kwargs: passed on to `predict`.

        Returns:
            float array `(len(text), hidden_dim)`, or `(len(text), output_dim)`.
        """
        return super().encode_text(text, verbose=verbose, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "pooling": self.pooling,
            "normalize": self.normalize,
            "output_dim": self.output_dim,
        }
