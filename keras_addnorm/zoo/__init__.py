"""Checkpoints of other libraries, imported exactly, and written back."""

from keras_addnorm.zoo.convert import from_hugging_face
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.families import FAMILIES
from keras_addnorm.zoo.keras_hub import from_keras_hub, to_keras_hub
from keras_addnorm.zoo.load import from_preset, load
from keras_addnorm.zoo.registry import list_presets
from keras_addnorm.zoo.sources import resolve
from keras_addnorm.zoo.trim import trim_vocabulary
from keras_addnorm.zoo.write import to_hugging_face

__all__ = [
    "FAMILIES",
    "CheckpointError",
    "from_hugging_face",
    "from_keras_hub",
    "from_preset",
    "list_presets",
    "load",
    "resolve",
    "to_hugging_face",
    "to_keras_hub",
    "trim_vocabulary",
]
