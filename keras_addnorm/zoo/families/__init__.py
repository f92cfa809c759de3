"""Checkpoint families: one file each, one entry in `FAMILIES` each."""

from keras_addnorm.zoo.families import bert

# In this order an encoder of ours is recognized as one of a family (`zoo.to_hugging_face`).
FAMILIES = {module.FAMILY.model_type: module.FAMILY for module in (bert,)}
