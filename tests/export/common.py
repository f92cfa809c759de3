"""Small models to export."""

import keras
import numpy as np

from keras_addnorm import models
from keras_addnorm.layers import AddNorm, FeedForward, MultiHeadAttention, TokenAndPositionEmbedding
from tests.common import word_piece

WORDS = "a cat sits on the mat dog runs fast how do i reset my password yes thanks . ? !".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
ENCODER = {
    "vocabulary_size": 100,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 32,
    "intermediate_dim": 64,
    "max_sequence_length": 32,
}


def randomize(model, seed=0):
    """Random weights of the size that training leaves behind."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            value = rng.normal(0.0, 0.3, weight.shape) + weight.path.endswith("gamma")
            squares = weight.path.endswith(("moving_variance", "moving_square"))
            weight.assign(np.abs(value) + 0.5 if squares else value)
    return model


def encoder(**arguments):
    """A random tiny encoder."""
    return randomize(models.TransformerEncoder(**{**ENCODER, **arguments}))


def embedder(**arguments):
    """A random tiny embedder with a tokenizer."""
    preprocessor = models.TextEmbedderPreprocessor(word_piece(VOCABULARY), sequence_length=32)
    return models.TextEmbedder(encoder(num_segments=2, **arguments), preprocessor=preprocessor)


def own_model():
    """Layers of this package in a user's own functional model, with a Keras mask."""
    token_ids = keras.Input((None,), dtype="int32", name="ids")
    x = TokenAndPositionEmbedding(50, 32, 32, mask_zero=True)(token_ids)
    x = AddNorm()(x, MultiHeadAttention(4)(x))
    n, x = AddNorm(return_sum=True, norm="rms_norm")(x, FeedForward(64, "gelu")(x))
    return randomize(keras.Model(token_ids, {"normed": n, "total": x}))


def plain_keras_model():
    """A functional model with nothing of this package in it."""
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(32, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return randomize(keras.Model(image, keras.layers.Dense(64, name="logits")(x)))


def sequential():
    """A Sequential model whose input has no name."""
    return randomize(keras.Sequential([keras.Input((40,)), keras.layers.Dense(32)]))
