"""Checkpoint families: one file each, one entry in `FAMILIES` each."""

from keras_addnorm.zoo.families import bert, deit, dinov2, dinov2_with_registers, vit

# In this order an encoder of ours is recognized as one of a family (`zoo.to_hugging_face`).
FAMILIES = {
    module.FAMILY.model_type: module.FAMILY
    for module in (bert, vit, deit, dinov2, dinov2_with_registers)
}
