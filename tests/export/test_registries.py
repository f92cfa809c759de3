"""Every row of the registries, and every option of the encoders, as verified files."""

import pytest

from keras_addnorm import export
from keras_addnorm.layers.norms import NORMS
from keras_addnorm.models import RESIDUALS, ImageEncoder
from tests.export import common

LOCAL = {"sliding_window": 5, "rotary": {"max_wavelength": 50.0}}
VARIANTS = [
    {
        "block_options": {"convolution": {"kernel_size": 5, "groups": 4}},
        "embedding_options": {
            "token_embedding_dim": 8,
            "project_first": True,
            "zero_padding": True,
        },
        "embedding_norm": True,
    },
    *({"residual": residual} for residual in RESIDUALS),
    *({"norm": norm} for norm in NORMS if norm != "layer_norm"),
    *(
        {"position": position}
        for position in ("learned", "none", "alibi", "relative", "disentangled")
    ),
    {
        "residual": "pre_norm",
        "activation": "gelu",
        "position": "rotary",
        "attention_options": [{}, LOCAL, LOCAL],
        "feed_forward_options": {"gated": True, "use_bias": False},
    },
    {"attention_options": {"num_key_value_heads": 2, "qk_norm": "rms_norm", "use_gate": True}},
    {"feed_forward_options": {"gated": True, "fused": True}, "activation": "silu"},
    {"residual": "pre_norm", "embedding_norm": True, "block_options": {"first_norm": False}},
    {
        "norm": "affine",
        "embedding_norm": True,
        "position": "learned",
        "embedding_options": {"token_embedding_dim": 8, "projection_window": 3},
        "block_options": {"num_feed_forwards": 2, "bottleneck_dim": 16},
    },
    {
        "residual": "pre_norm",
        "position": "rotary",
        "embedding_options": {"mask_token_id": 3, "zero_padding": True},
    },
    {
        "embedding_options": {"token_embedding_dim": 16, "embedding_scale": "sqrt"},
        "embedding_norm": True,
        "share_layers": True,
        "pooler": "tanh",
    },
]
each_variant = pytest.mark.parametrize(
    "kwargs", VARIANTS, ids=lambda kwargs: "-".join(map(str, kwargs.values()))[:40]
)


@each_variant
def test_text_encoder(kwargs, tmp_path):
    model = common.encoder(**kwargs)
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=16)
    assert report.xnnpack_partitions == 1
    assert set(report.verification) == set(model.output)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"block_options": {"convolution": {}}},
        *({"position": name} for name in ("sinusoidal", "rotary", "relative", "disentangled")),
        {"block_options": {"num_feed_forwards": 2, "bottleneck_dim": 16}},
    ],
    ids=lambda kwargs: str(*kwargs.values()),
)
def test_text_encoder_of_any_length(kwargs, tmp_path):
    model = common.encoder(**kwargs)
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=None)
    assert set(report.verification) == {"sequence_output"}


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"residual": "layer_scale", "embedding_options": {"num_register_tokens": 2}}],
    ids=["vit", "dino"],
)
def test_image_encoder(kwargs, tmp_path):
    model = common.randomize(ImageEncoder((16, 16, 3), 4, 2, 2, 32, 64, pooler="tanh", **kwargs))
    report = export.to_tflite(model, tmp_path / "m.tflite")
    assert report.xnnpack_partitions == 1
    assert set(report.verification) == {"sequence_output", "pooled_output"}


@pytest.mark.parametrize("kwargs", [{"residual": "deep_norm"}, {"norm": "batch_norm"}])
def test_saved_model(kwargs, tmp_path):
    report = export.to_saved_model(common.encoder(**kwargs), tmp_path / "m")
    assert set(report.verification) == {"sequence_output"}
