"""Encoders and tasks assembled from this package's layers; KerasHub backbones and tasks."""

from keras_addnorm.models.image_encoder import ImageEncoder
from keras_addnorm.models.masked_lm import MaskedLM, MaskedLMPreprocessor
from keras_addnorm.models.residual import RESIDUALS, Residual
from keras_addnorm.models.text_embedder import TextEmbedder, TextEmbedderPreprocessor
from keras_addnorm.models.transformer_encoder import TransformerEncoder

__all__ = [
    "RESIDUALS",
    "ImageEncoder",
    "MaskedLM",
    "MaskedLMPreprocessor",
    "Residual",
    "TextEmbedder",
    "TextEmbedderPreprocessor",
    "TransformerEncoder",
]
