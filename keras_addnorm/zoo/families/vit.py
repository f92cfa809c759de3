"""ViT, and what has its architecture: DeiT without distillation, DINO.

Source: Dosovitskiy et al., arXiv:2010.11929; names as in transformers' `ViTModel`.
"""

from keras_addnorm.models import ImageEncoder
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import heads, keras_hub_images, vit_like

_HUB_BLOCK = {
    "attention_norm": "vit_encoder/transformer_block_{n}/ln_1",
    "attention": "vit_encoder/transformer_block_{n}/mha",
    "ffn_norm": "vit_encoder/transformer_block_{n}/ln_2",
    "intermediate": "vit_encoder/transformer_block_{n}/mlp/dense_1",
    "ffn_output": "vit_encoder/transformer_block_{n}/mlp/dense_2",
    "last_norm": "vit_encoder/ln",
}


def _from_keras_hub(config):
    tokens = {} if config.flag("use_class_token") else {"num_class_tokens": 0}
    patch_bias = {} if config.flag("use_patch_bias") else {"use_bias": False}
    return {
        **keras_hub_images.read_config(config, "mlp_dim"),
        "feed_forward_options": {} if config.flag("use_mlp_bias") else {"use_bias": False},
        "embedding_options": {**tokens, **patch_bias},
    }


def _backbone_config(config):
    options = config["embedding_options"]
    return {
        **keras_hub_images.backbone_config(config, "mlp_dim"),
        "use_mlp_bias": not config["feed_forward_options"],
        "use_class_token": options.get("num_class_tokens", 1) > 0,
        "use_patch_bias": options.get("use_bias", True),
    }


def _keras_hub_weights(config):
    name, options = "vit_patching_and_embedding", config["embedding_options"]
    rows = keras_hub_images.embeddings(
        config,
        f"{name}/patch_embedding",
        (f"{name}/position_embedding/embeddings", ()),
        [f"{name}/class_token"] * options.get("num_class_tokens", 1),
        options.get("use_bias", True),
    )
    return rows + keras_hub_images.blocks(config, _HUB_BLOCK)


_VIT, _DEIT, _DINO = "2010.11929", "2012.12877", "2104.14294"
_PRESETS = {
    "vit_tiny_patch16_224": vit_like.vit_preset(
        "tiny", 16, 224, 5_561_472, _DEIT, {"deit_in1k": "facebook/deit-tiny-patch16-224"}
    ),
    "vit_small_patch16_224": vit_like.vit_preset(
        *("small", 16, 224, 21_813_504, _DEIT),
        {"deit_in1k": "facebook/deit-small-patch16-224", "dino": "facebook/dino-vits16"},
    ),
    "vit_small_patch8_224": vit_like.vit_preset(
        "small", 8, 224, 21_818_112, _DINO, {"dino": "facebook/dino-vits8"}
    ),
    "vit_base_patch32_224": vit_like.vit_preset(
        "base", 32, 224, 88_045_824, _VIT, {"in21k": "google/vit-base-patch32-224-in21k"}
    ),
    "vit_base_patch32_384": vit_like.vit_preset(
        "base", 32, 384, 88_118_784, _VIT, {"in21k_ft_in1k": "google/vit-base-patch32-384"}
    ),
    "vit_base_patch16_224": vit_like.vit_preset(
        *("base", 16, 224, 86_389_248, _VIT),
        {
            "in21k": "google/vit-base-patch16-224-in21k",
            "in21k_ft_in1k": "google/vit-base-patch16-224",
            "deit_in1k": "facebook/deit-base-patch16-224",
            "dino": "facebook/dino-vitb16",
        },
    ),
    "vit_base_patch16_384": vit_like.vit_preset(
        *("base", 16, 384, 86_681_088, _VIT),
        {
            "in21k_ft_in1k": "google/vit-base-patch16-384",
            "deit_in1k": "facebook/deit-base-patch16-384",
        },
    ),
    "vit_base_patch8_224": vit_like.vit_preset(
        "base", 8, 224, 86_398_464, _DINO, {"dino": "facebook/dino-vitb8"}
    ),
    "vit_large_patch32_224": vit_like.vit_preset(
        "large", 32, 224, 306_560_000, _VIT, {"in21k": "google/vit-large-patch32-224-in21k"}
    ),
    "vit_large_patch32_384": vit_like.vit_preset(
        "large", 32, 384, 306_657_280, _VIT, {"in21k_ft_in1k": "google/vit-large-patch32-384"}
    ),
    "vit_large_patch16_224": vit_like.vit_preset(
        *("large", 16, 224, 304_351_232, _VIT),
        {
            "in21k": "google/vit-large-patch16-224-in21k",
            "in21k_ft_in1k": "google/vit-large-patch16-224",
        },
    ),
    "vit_large_patch16_384": vit_like.vit_preset(
        "large", 16, 384, 304_740_352, _VIT, {"in21k_ft_in1k": "google/vit-large-patch16-384"}
    ),
    "vit_huge_patch14_224": vit_like.vit_preset(
        "huge", 14, 224, 632_404_480, _VIT, {"in21k": "google/vit-huge-patch14-224-in21k"}
    ),
}

FAMILY = Family(
    model_type="vit",
    architecture="ViTModel",
    encoder=ImageEncoder,
    encoder_config=vit_like.read_vit,
    config_keys=vit_like.vit_keys,
    weights=vit_like.vit_weights,
    prefix="vit.",
    anchor="embeddings.cls_token",
    pooler="pooler.dense.weight",
    heads={"ViTForImageClassification": heads.image_classifier()},
    head_prefixes=("classifier.", "decoder."),
    buffers=frozenset({vit_like.MASK_TOKEN}),
    ignored_keys=IGNORED_KEYS | {"encoder_stride"},  # of the decoder for pretraining
    keras_hub=KerasHub(
        backbone="ViTBackbone",
        encoder_config=_from_keras_hub,
        backbone_config=_backbone_config,
        weights=_keras_hub_weights,
    ),
    presets=_PRESETS,
)
