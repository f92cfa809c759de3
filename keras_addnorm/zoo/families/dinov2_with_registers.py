"""DINOv2 with register tokens.

Source: Darcet et al., arXiv:2309.16588; names as in transformers' `Dinov2WithRegistersModel`.
"""

from keras_addnorm.models import ImageEncoder
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family
from keras_addnorm.zoo.shared import dinov2_like, heads, vit_like


def _encoder_config(config):
    registers = config.integer("num_register_tokens", high=dinov2_like.MAX_REGISTERS, default=4)
    return {
        **dinov2_like.read_config(config, patch_size=16),
        "embedding_options": {"num_register_tokens": registers},
    }


def _config_keys(config):
    registers = config["embedding_options"]["num_register_tokens"]
    return {**dinov2_like.config_keys(config), "num_register_tokens": registers}


# Without the mask token.
_PARAMETERS = {
    "small": 22_057_728,
    "base": 86_582_784,
    "large": 304_371_712,
    "giant": 1_136_485_376,
}

FAMILY = Family(
    model_type="dinov2_with_registers",
    architecture="Dinov2WithRegistersModel",
    encoder=ImageEncoder,
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=dinov2_like.weights,
    prefix="dinov2_with_registers.",
    anchor="embeddings.cls_token",
    heads={
        "Dinov2WithRegistersForImageClassification": heads.image_classifier(pooling=["cls", "mean"])
    },
    head_prefixes=("classifier.",),
    buffers=frozenset({vit_like.MASK_TOKEN}),
    ignored_keys=IGNORED_KEYS | dinov2_like.IGNORED_KEYS,
    antialias_positions=True,
    presets={
        f"dinov2_with_registers_{size}": dinov2_like.preset(
            "dinov2-with-registers", size, parameters, "2309.16588"
        )
        for size, parameters in _PARAMETERS.items()
    },
)
