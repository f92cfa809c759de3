"""Counts of weights and operations against formulas worked out by hand."""

import keras
import keras_hub
import pytest

from keras_addnorm.export.describe import describe, flops
from keras_addnorm.models import ImageEncoder, TextEmbedder, TransformerEncoder
from tests.common import TINY_IMAGE_ENCODER


def encoder_flops(layers, length, width, inner):
    """Four projections, two feed-forward layers, and the products of scores and of context."""
    return layers * (2 * length * (4 * width**2 + 2 * width * inner) + 4 * length**2 * width)


@pytest.mark.parametrize("length", [1, 16, 40])
def test_flops_of_an_encoder(length):
    encoder = TransformerEncoder(50, 2, 4, 32, 48, pooler="tanh")
    assert flops(encoder, length) == encoder_flops(2, length, 32, 48) + 2 * 32**2


def test_shared_layers_are_counted_as_often_as_they_run():
    encoder = TransformerEncoder(50, 3, 4, 32, 48, share_layers=True)
    assert flops(encoder, 8) == encoder_flops(3, 8, 32, 48)


def test_flops_of_keras_hubs_encoder_are_the_same():
    backbone = keras_hub.models.BertBackbone(50, 2, 4, 32, 48)
    assert flops(backbone, 16) == encoder_flops(2, 16, 32, 48) + 2 * 32**2


def test_flops_of_an_image_encoder_and_of_a_convolution():
    images = keras.Input((10, 8, 3))
    model = keras.Model(images, keras.layers.Conv2D(7, 3, padding="valid")(images))
    assert flops(model) == 2 * (8 * 6 * 7) * (3 * 3 * 3)
    assert list(describe(ImageEncoder(**TINY_IMAGE_ENCODER)).flops) == [None]


def test_a_description_accounts_for_all_weights():
    encoder = TransformerEncoder(50, 2, 4, 32, 48, num_segments=2, max_sequence_length=40)
    embedder = TextEmbedder(encoder)
    description = describe(embedder, sequence_lengths=(8, 40, 41))
    assert sum(description.parts.values()) == description.parameters == embedder.count_params()
    assert description.parts["embeddings/token_embedding"] == 50 * 32
    assert description.parts["layer_*_attention"] == 2 * (4 * 32**2 + 4 * 32)
    assert description.embedding_share == (50 * 32 + 2 * 32) / description.parameters
    assert list(description.flops) == [8, 40]  # The table of positions ends there.
    assert (description.layers, description.model_class) == (2, "TextEmbedder")
    assert description.config["pooling"] == "mean" and description.config["num_heads"] == 4
