"""Text bundles (`keras_addnorm.export.to_text_bundle`) in LiteRT, without Keras or TensorFlow."""

from keras_addnorm.text.classifier import Classifier
from keras_addnorm.text.embedder import Embedder
from keras_addnorm.text.errors import BundleError
from keras_addnorm.text.search import top_k

__all__ = ["BundleError", "Classifier", "Embedder", "top_k"]
