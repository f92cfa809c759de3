"""Checkpoints of other libraries, imported exactly."""

from keras_addnorm.zoo.convert import from_hugging_face
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.families import FAMILIES
from keras_addnorm.zoo.load import load
from keras_addnorm.zoo.sources import resolve

__all__ = ["FAMILIES", "CheckpointError", "from_hugging_face", "load", "resolve"]
