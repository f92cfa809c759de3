"""Encoders and tasks assembled from this package's layers; KerasHub backbones and tasks."""

from keras_addnorm.models.image_classifier import ImageClassifier
from keras_addnorm.models.image_classifier_preprocessor import ImageClassifierPreprocessor
from keras_addnorm.models.image_converter import ImageConverter
from keras_addnorm.models.image_encoder import ImageEncoder
from keras_addnorm.models.masked_lm import MaskedLM
from keras_addnorm.models.masked_lm_preprocessor import MaskedLMPreprocessor
from keras_addnorm.models.plain_keras import to_plain_keras
from keras_addnorm.models.question_answering import QuestionAnswering, decode_spans
from keras_addnorm.models.question_answering_preprocessor import QuestionAnsweringPreprocessor
from keras_addnorm.models.residual import RESIDUALS, Residual
from keras_addnorm.models.text_classifier import TextClassifier
from keras_addnorm.models.text_classifier_preprocessor import TextClassifierPreprocessor
from keras_addnorm.models.text_embedder import TextEmbedder
from keras_addnorm.models.text_embedder_preprocessor import TextEmbedderPreprocessor
from keras_addnorm.models.token_classifier import TokenAccuracy, TokenClassifier
from keras_addnorm.models.token_classifier_preprocessor import TokenClassifierPreprocessor
from keras_addnorm.models.tokenizer import Tokenizer
from keras_addnorm.models.transformer_encoder import TransformerEncoder

__all__ = [
    "RESIDUALS",
    "ImageClassifier",
    "ImageClassifierPreprocessor",
    "ImageConverter",
    "ImageEncoder",
    "MaskedLM",
    "MaskedLMPreprocessor",
    "QuestionAnswering",
    "Residual",
    "TextClassifier",
    "TextEmbedder",
    "TextEmbedderPreprocessor",
    "TokenAccuracy",
    "TokenClassifier",
    "QuestionAnsweringPreprocessor",
    "TextClassifierPreprocessor",
    "TokenClassifierPreprocessor",
    "Tokenizer",
    "TransformerEncoder",
    "decode_spans",
    "to_plain_keras",
]
