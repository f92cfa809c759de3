"""KerasHub's backbones as encoders of ours, and back."""

import keras
import keras_hub

from keras_addnorm.layers.dense import values_follow
from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.families import FAMILIES
from keras_addnorm.zoo.recognize import keras_hub_family
from keras_addnorm.zoo.weight import collect_tensors, load_weights

# Keys that every backbone's config has.
_IGNORED = frozenset({"name", "trainable", "dtype"})


def from_keras_hub(backbone_or_preset, dtype="float32"):
    """Builds the encoder of ours that computes what a KerasHub backbone computes.

    Args:
        backbone_or_preset: a backbone, or what its `from_preset` takes: a preset's name, a folder,
            or `"hf://..."`, `"kaggle://..."`.
        dtype: dtype policy of the layers.

    Returns:
        A `TransformerEncoder` or `ImageEncoder`.

    Raises:
        CheckpointError: listing everything about the backbone that cannot be honoured.

    Example:

    ```python
    backbone = keras_hub.models.BertBackbone.from_preset("bert_tiny_en_uncased")
    encoder = keras_addnorm.zoo.from_keras_hub(backbone)
    ```
    """
    backbone = backbone_or_preset
    if isinstance(backbone, str):
        backbone = keras_hub.models.Backbone.from_preset(backbone)
    family = _family(backbone)
    hub = family.keras_hub
    reader = ConfigReader(_config(backbone), _IGNORED | hub.ignored_keys)
    config = hub.encoder_config(reader)
    problems = reader.finish()
    if not problems:
        weights = hub.weights(config)
        variables = _variables(backbone)
        problems = _problems(variables.keys() - hub.unused, variables, weights)
    if problems:
        raise CheckpointError(f"the {type(backbone).__name__}", problems)
    with values_follow():
        encoder = family.encoder(**config, dtype=dtype)

    def read(name, rows):
        value = keras.ops.convert_to_numpy(variables[name])
        return value if rows is None else value[slice(*rows)]

    load_weights(encoder, read, weights)
    return encoder


def to_keras_hub(encoder, model_type=None, dtype="float32"):
    """Builds the KerasHub backbone that computes what an encoder of ours computes.

    Args:
        encoder: a `TransformerEncoder` or `ImageEncoder`.
        model_type: a key of `zoo.FAMILIES`, for encoders that several families have (RoBERTa and
            XLM-RoBERTa). Default: the first that says exactly what the encoder computes.
        dtype: dtype policy of the backbone.

    Raises:
        ValueError: on an unknown family, or if KerasHub has no backbone that computes exactly
            this; the message says why.

    Example:

    ```python
    backbone = keras_addnorm.zoo.to_keras_hub(encoder)
    ```
    """
    family, config = keras_hub_family(encoder, model_type)
    backbone = getattr(keras_hub.models, family.keras_hub.backbone)(**config, dtype=dtype)
    tensors = collect_tensors(encoder, family.keras_hub.weights(encoder.get_config()))
    for path, variable in _variables(backbone).items():
        variable.assign(tensors[family.keras_hub.unused.get(path, path)])
    return backbone


def _config(backbone):
    """The backbone's config, with the layout of images, which KerasHub leaves out."""
    config = backbone.get_config()
    for layer in backbone._flatten_layers():
        if isinstance(layer, keras.layers.Conv2D):
            config["data_format"] = layer.data_format
    return config


def _variables(backbone):
    """The backbone's variables by path, without the name that some backbones begin all with."""
    paths = {variable.path: variable for variable in backbone.weights}
    name = f"{backbone.name}_"
    if not all(path.startswith(name) for path in paths):
        return paths
    return {path.removeprefix(name): variable for path, variable in paths.items()}


def _families():
    hubs = (family for family in FAMILIES.values() if family.keras_hub is not None)
    return {getattr(keras_hub.models, family.keras_hub.backbone): family for family in hubs}


def has_family(backbone):
    """Whether `from_keras_hub` takes backbones of this class."""
    return type(backbone) in _families()


def _family(backbone):
    families = _families()
    if type(backbone) not in families:
        names = ", ".join(cls.__name__ for cls in families)
        raise CheckpointError(
            f"an object of type {type(backbone).__name__}",
            [f"it is no KerasHub backbone of the zoo, which has {names}"],
        )
    return families[type(backbone)]


def _problems(used, variables, weights):
    rows = {row.tensor: row for row in weights if not row.added}
    problems = [f"variable `{path}` is missing" for path in sorted(rows.keys() - used)]
    problems += [f"variable `{path}` is not understood" for path in sorted(used - rows.keys())]
    for path in sorted(rows.keys() & used):
        shape = tuple(variables[path].shape)
        if shape != rows[path].shape:
            problems.append(f"variable `{path}` has shape {shape}, not {rows[path].shape}")
    return problems
