"""DeiT with a distillation token.

Source: Touvron et al., arXiv:2012.12877; names as in transformers' `DeiTModel`.
"""

import functools

from keras_addnorm.models import ImageEncoder
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import heads, keras_hub_images, vit_like

_TOKENS = ("embeddings.cls_token", "embeddings.distillation_token")
_HUB_BLOCK = {
    "attention_norm": "deit_encoder/transformer_block_{n}/ln_1",
    "attention": "deit_encoder/transformer_block_{n}/mha",
    "ffn_norm": "deit_encoder/transformer_block_{n}/ln_2",
    "intermediate": "deit_encoder/transformer_block_{n}/mlp/dense",
    "ffn_output": "deit_encoder/transformer_block_{n}/output_layer/output",
    "last_norm": "deit_encoder/ln",
}


def _from_keras_hub(config):
    return {
        **keras_hub_images.read_config(config),
        "embedding_options": {"num_class_tokens": len(_TOKENS)},
        "feed_forward_options": {},
    }


def _keras_hub_weights(config):
    name = "deit_patching_and_embedding"
    rows = keras_hub_images.embeddings(
        config,
        f"{name}/patch_embedding",
        (f"{name}/position_embedding", (1,)),
        (f"{name}/class_token", f"{name}/distillation_token"),
    )
    return rows + keras_hub_images.blocks(config, _HUB_BLOCK)


_PRESETS = {
    f"deit_{size}_distilled_patch16_{image_size}": vit_like.vit_preset(
        *(size, 16, image_size, parameters, "2012.12877"),
        {"in1k": f"facebook/deit-{size}-distilled-patch16-{image_size}"},
    )
    for size, image_size, parameters in (
        ("tiny", 224, 5_561_856),
        ("small", 224, 21_814_272),
        ("base", 224, 86_390_784),
        ("base", 384, 86_682_624),
    )
}

FAMILY = Family(
    model_type="deit",
    architecture="DeiTModel",
    encoder=ImageEncoder,
    encoder_config=functools.partial(vit_like.read_vit, num_class_tokens=len(_TOKENS)),
    config_keys=vit_like.vit_keys,
    weights=functools.partial(vit_like.vit_weights, tokens=_TOKENS),
    prefix="deit.",
    anchor="embeddings.cls_token",
    pooler="pooler.dense.weight",
    heads={
        "DeiTForImageClassification": heads.image_classifier(),
        "DeiTForImageClassificationWithTeacher": heads.image_classifier(
            "cls_classifier", distilled="distillation_classifier"
        ),
    },
    head_prefixes=("classifier.", "cls_classifier.", "distillation_classifier.", "decoder."),
    buffers=frozenset({vit_like.MASK_TOKEN}),
    ignored_keys=IGNORED_KEYS | {"encoder_stride"},  # of the decoder for pretraining
    keras_hub=KerasHub(
        backbone="DeiTBackbone",
        encoder_config=_from_keras_hub,
        backbone_config=keras_hub_images.backbone_config,
        weights=_keras_hub_weights,
    ),
    presets=_PRESETS,
)
