"""Checkpoint families: one file each, one entry in `FAMILIES` each."""

from keras_addnorm.zoo.families import (
    albert,
    bert,
    deberta_v2,
    deit,
    dinov2,
    dinov2_with_registers,
    distilbert,
    electra,
    esm,
    mobilebert,
    modernbert,
    mpnet,
    nomic_bert,
    roberta,
    vit,
    xlm_roberta,
)

_TEXT = (
    *(bert, distilbert, roberta, xlm_roberta, electra, albert, mpnet),
    *(mobilebert, modernbert, nomic_bert, esm, deberta_v2),
)
_IMAGES = (vit, deit, dinov2, dinov2_with_registers)

# In this order an encoder of ours is recognized as one of a family (`zoo.to_hugging_face`).
FAMILIES = {module.FAMILY.model_type: module.FAMILY for module in (*_TEXT, *_IMAGES)}
