"""DINOv2.

Source: Oquab et al., arXiv:2304.07193; names as in transformers' `Dinov2Model`, whose pooled output
is the class token of the sequence output.
"""

from keras_addnorm.models import ImageEncoder
from keras_addnorm.zoo import dinov2_like, vit_like
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family


def _encoder_config(config):
    return dinov2_like.read_config(config, patch_size=14)


def _config_keys(config):
    # The mask token is of no use after pretraining: the model that is written has none.
    return {**dinov2_like.config_keys(config), "use_mask_token": False}


FAMILY = Family(
    model_type="dinov2",
    architecture="Dinov2Model",
    encoder=ImageEncoder,
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=dinov2_like.weights,
    prefix="dinov2.",
    anchor="embeddings.cls_token",
    head_prefixes=("classifier.",),
    buffers=frozenset({vit_like.MASK_TOKEN}),
    ignored_keys=IGNORED_KEYS | dinov2_like.IGNORED_KEYS | {"use_mask_token"},
)
