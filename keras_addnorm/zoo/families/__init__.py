"""Checkpoint families: one file each, one entry in `FAMILIES` each."""

from keras_addnorm.zoo.families import bert

FAMILIES = {"bert": bert.FAMILY}
