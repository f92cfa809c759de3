"""Numbers of weights that papers and checkpoints state."""

import pytest

from keras_addnorm.models import ImageEncoder, TransformerEncoder

BERT = {
    "vocabulary_size": 30522,
    "activation": "gelu",
    "position": "learned",
    "num_segments": 2,
    "embedding_norm": True,
    "pooler": "tanh",
}


def bert(layers, width):
    return TransformerEncoder(
        **BERT,
        num_layers=layers,
        num_heads=width // 64,
        hidden_dim=width,
        intermediate_dim=4 * width,
    )


@pytest.mark.parametrize(
    ("layers", "width", "parameters"), [(2, 128, 4_385_920), (4, 256, 11_170_560)]
)
def test_bert_miniatures(layers, width, parameters):
    """Turc et al., arXiv:1908.08962: BERT-Tiny and BERT-Mini, with pooler."""
    assert bert(layers, width).count_params() == parameters


def test_base_encoder_of_the_paper():
    """Vaswani et al., arXiv:1706.03762: 37,000 shared tokens, of 512 features each."""
    encoder = TransformerEncoder(vocabulary_size=37_000)
    assert encoder.count_params() == 18_914_304 + 37_000 * 512


def test_albert_base():
    """Lan et al., arXiv:1909.11942, table 1: 12M; `albert-base-v2` with pooler has 11,683,584."""
    encoder = TransformerEncoder(
        **{**BERT, "vocabulary_size": 30_000},
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        intermediate_dim=3072,
        share_layers=True,
        embedding_options={"token_embedding_dim": 128},
    )
    assert encoder.count_params() == 11_683_584


@pytest.mark.parametrize(
    ("kwargs", "parameters"),
    [
        ({}, 85_798_656),  # ViT-B/16: Dosovitskiy et al., arXiv:2010.11929, 86M
        (  # DINOv2 ViT-S/14: Oquab et al., arXiv:2304.07193
            {
                "patch_size": 14,
                "image_shape": (518, 518, 3),
                "num_heads": 6,
                "hidden_dim": 384,
                "intermediate_dim": 1536,
                "residual": "layer_scale",
            },
            22_056_192,
        ),
    ],
)
def test_vision_transformers(kwargs, parameters):
    encoder = ImageEncoder(**{"image_shape": (224, 224, 3), **kwargs})
    assert encoder.count_params() == parameters
