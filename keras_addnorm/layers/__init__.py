"""Transformer layers in pure `keras.ops`, for any Keras backend."""

from keras_addnorm.layers.add_norm import AddNorm
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.feed_forward import FeedForward
from keras_addnorm.layers.head import Head
from keras_addnorm.layers.multi_head_attention import MultiHeadAttention
from keras_addnorm.layers.norms import Affine, DynamicTanh, PowerNormalization
from keras_addnorm.layers.patch_embedding import PatchEmbedding
from keras_addnorm.layers.pooling import SequencePooling
from keras_addnorm.layers.position_bias import ALiBi, RelativePositionBias
from keras_addnorm.layers.position_encoding import (
    LearnedPositionEncoding,
    SinusoidalPositionEncoding,
)
from keras_addnorm.layers.projection import Projection
from keras_addnorm.layers.relative_embedding import RelativeEmbedding
from keras_addnorm.layers.rotary_embedding import RotaryEmbedding
from keras_addnorm.layers.sequence_convolution import SequenceConvolution
from keras_addnorm.layers.token_and_position_embedding import TokenAndPositionEmbedding
from keras_addnorm.layers.transformer_encoder_layer import TransformerEncoderLayer

__all__ = [
    "ALiBi",
    "AddNorm",
    "Affine",
    "Dropout",
    "DynamicTanh",
    "FeedForward",
    "Head",
    "LearnedPositionEncoding",
    "MultiHeadAttention",
    "PatchEmbedding",
    "PowerNormalization",
    "Projection",
    "RelativeEmbedding",
    "RelativePositionBias",
    "RotaryEmbedding",
    "SequenceConvolution",
    "SequencePooling",
    "SinusoidalPositionEncoding",
    "TokenAndPositionEmbedding",
    "TransformerEncoderLayer",
]
