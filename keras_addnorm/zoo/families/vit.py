"""ViT, and what has its architecture: DeiT without distillation, DINO.

Source: Dosovitskiy et al., arXiv:2010.11929; names as in transformers' `ViTModel`.
"""

from keras_addnorm.models import ImageEncoder
from keras_addnorm.zoo import vit_like
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family

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
    head_prefixes=("classifier.", "decoder."),
    buffers=frozenset({vit_like.MASK_TOKEN}),
    ignored_keys=IGNORED_KEYS | {"encoder_stride"},  # of the decoder for pretraining
)
