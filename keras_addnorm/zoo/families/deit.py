"""DeiT with a distillation token.

Source: Touvron et al., arXiv:2012.12877; names as in transformers' `DeiTModel`.
"""

import functools

from keras_addnorm.models import ImageEncoder
from keras_addnorm.zoo import vit_like
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family

_TOKENS = ("embeddings.cls_token", "embeddings.distillation_token")

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
    head_prefixes=("classifier.", "cls_classifier.", "distillation_classifier.", "decoder."),
    buffers=frozenset({vit_like.MASK_TOKEN}),
    ignored_keys=IGNORED_KEYS | {"encoder_stride"},  # of the decoder for pretraining
)
