"""DINOv2.

Source: Oquab et al., arXiv:2304.07193; names as in transformers' `Dinov2Model`, whose pooled output
is the class token of the sequence output.
"""

from keras_addnorm.models import ImageEncoder
from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import dinov2_like, heads, keras_hub_images, vit_like
from keras_addnorm.zoo.weight import Weight

_HUB_BLOCK = {
    "attention_norm": "encoder/layers_{i}/norm1",
    "attention": "encoder/layers_{i}/attention/attention",
    "ffn_norm": "encoder/layers_{i}/norm2",
    "intermediate": "encoder/layers_{i}/mlp/fc1",
    "ffn_output": "encoder/layers_{i}/mlp/fc2",
    "last_norm": "layernorm",
}
_HUB_GATED_BLOCK = {
    **_HUB_BLOCK,
    "intermediate": "encoder/layers_{i}/mlp/weights_in",
    "ffn_output": "encoder/layers_{i}/mlp/weights_out",
}
_HUB_POSITIONS = "embeddings/interpolated_position_embeddings"


def _encoder_config(config):
    return dinov2_like.read_config(config, patch_size=14)


def _config_keys(config):
    # The mask token is of no use after pretraining: the model that is written has none.
    return {**dinov2_like.config_keys(config), "use_mask_token": False}


def _from_keras_hub(config):
    sizes = keras_hub_images.read_sizes(config)
    dinov2_like.check_square(config, "image_shape", sizes["image_shape"])
    gated = config.flag("use_swiglu_ffn")
    inner = config.integer("intermediate_dim", high=MAX_SIZE)
    registers = config.integer("num_register_tokens", high=dinov2_like.MAX_REGISTERS, low=0)
    dropout = config.number("dropout_rate", 0.0, 0.999)
    return {
        **sizes,
        "residual": "layer_scale",
        "activation": "silu" if gated else "gelu",
        "epsilon": 1e-6,  # KerasHub has no other.
        "patch_size": config.integer("patch_size", high=MAX_SIZE),
        "intermediate_dim": dinov2_like.gated_dim(inner) if gated else inner,
        "dropout": dropout,
        "attention_dropout": dropout,
        "drop_path": config.number("drop_path_rate", 0.0, 0.999),
        "attention_options": {},
        "feed_forward_options": dinov2_like.GATED if gated else {},
        "embedding_options": {"num_register_tokens": registers} if registers else {},
    }


def _backbone_config(config):
    gated, inner = bool(config["feed_forward_options"]), config["intermediate_dim"]
    return {
        **keras_hub_images.backbone_sizes(config),
        "intermediate_dim": inner * 3 // 2 if gated else inner,
        "use_swiglu_ffn": gated,
        "num_register_tokens": config["embedding_options"].get("num_register_tokens", 0),
        "drop_path_rate": config["drop_path"],
        "use_mask_token": False,
        "position_embedding_shape": config["image_shape"],
    }


def _keras_hub_weights(config):
    gated, width = bool(config["feed_forward_options"]), config["hidden_dim"]
    registers = config["embedding_options"].get("num_register_tokens", 0)
    rows = keras_hub_images.embeddings(
        config,
        "embeddings/patch_embeddings/projection",
        (_HUB_POSITIONS, (1,)),
        ["embeddings/cls_token"],
    )
    if registers:
        name = "embeddings/register_tokens"
        rows.append(Weight(name, name, (1, registers, width)))
    if gated:
        wide = 2 * config["intermediate_dim"]
        rows += keras_hub_images.blocks(config, _HUB_GATED_BLOCK, wide)
    else:
        rows += keras_hub_images.blocks(config, _HUB_BLOCK)
    return rows + dinov2_like.layer_scales(config, "encoder/layers_{i}/layer_scale{n}/lambda1")


# Without the mask token.
_PARAMETERS = {
    "small": 22_056_192,
    "base": 86_579_712,
    "large": 304_367_616,
    "giant": 1_136_479_232,
}

FAMILY = Family(
    model_type="dinov2",
    architecture="Dinov2Model",
    encoder=ImageEncoder,
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=dinov2_like.weights,
    prefix="dinov2.",
    anchor="embeddings.cls_token",
    heads={"Dinov2ForImageClassification": heads.image_classifier(pooling=["cls", "mean"])},
    head_prefixes=("classifier.",),
    buffers=frozenset({vit_like.MASK_TOKEN}),
    ignored_keys=IGNORED_KEYS | dinov2_like.IGNORED_KEYS | {"use_mask_token"},
    keras_hub=KerasHub(  # With and without registers.
        backbone="DINOV2Backbone",
        encoder_config=_from_keras_hub,
        backbone_config=_backbone_config,
        weights=_keras_hub_weights,
        # Where the positions come from, and what the other outputs are: nothing that is computed.
        ignored_keys=frozenset(
            "position_embedding_shape antialias_in_interpolation apply_layernorm "
            "layer_scale_init_value use_mask_token".split()
        ),
        unused={"embeddings/mask_token": None, "embeddings/position_embeddings": _HUB_POSITIONS},
    ),
    presets={
        f"dinov2_{size}": dinov2_like.preset("dinov2", size, parameters, "2304.07193")
        for size, parameters in _PARAMETERS.items()
    },
)
