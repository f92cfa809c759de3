"""What the zoo knows about one family of checkpoints, as data."""

import dataclasses
import re
from collections.abc import Callable

from keras_addnorm.models import TransformerEncoder


@dataclasses.dataclass(frozen=True)
class Head:
    """What one class of transformers puts on the encoder, such as `BertForMaskedLM`.

    Attributes:
        task: a key of `zoo.tasks.TASKS`.
        arguments: `(ConfigReader, encoder_config) -> dict`, arguments of the task's class; they
            hold all that `config_keys` needs.
        weights: `(encoder_config, arguments) -> list[Weight]`, without those of the encoder. Names
            of tensors are whole.
        config_keys: `(encoder_config, arguments) -> dict`, the inverse of `arguments`: keys of
            `config.json`.
        copies: `(arguments) -> dict` of tensors that older files hold as a copy of another one
            (tied weights), and the other one.
        unread: `(arguments) -> dict` of tensors that files hold and transformers does not read,
            and the tensor whose values are written there.
    """

    task: str
    arguments: Callable
    weights: Callable
    config_keys: Callable
    copies: Callable = lambda arguments: {}
    unread: Callable = lambda arguments: {}


@dataclasses.dataclass(frozen=True)
class KerasHub:
    """The same family among KerasHub's backbones.

    Attributes:
        backbone: name of the class in `keras_hub.models`.
        encoder_config: `(ConfigReader) -> dict`, from the backbone's config.
        backbone_config: `(encoder_config) -> dict`, its inverse.
        weights: `(encoder_config) -> list[Weight]`; tensors are paths of the backbone's variables.
        ignored_keys: keys of the backbone's config that do not change what it computes.
        unused: dict of variables that the backbone has and its call does not read, and the tensor
            that they get the values of on the way back; None for those that are then not there.
    """

    backbone: str
    encoder_config: Callable
    backbone_config: Callable
    weights: Callable
    ignored_keys: frozenset = frozenset()
    unused: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Published:
    """Where the weights of a checkpoint are.

    Attributes:
        repository: `owner/name` on Hugging Face.
        license: SPDX identifier of the licence of the weights.
        package: a key of `sources.PACKAGES` where a registry package carries them.
    """

    repository: str
    license: str
    package: str | None = None


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published architecture, and the checkpoints that have it.

    Attributes:
        config: the keys of its `config.json` that are not the family's defaults.
        parameters: number of weights of transformers' bare model of this config, without buffers.
        paper: arXiv identifier of the paper that describes it.
        tags: dict of `Published` by tag: `name.tag` is the architecture with these weights.
        pooler: bool, whether the checkpoints have the family's pooler.
    """

    config: dict
    parameters: int
    paper: str
    tags: dict = dataclasses.field(default_factory=dict)
    pooler: bool = True


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of checkpoints.

    Attributes:
        model_type: `model_type` in `config.json`.
        architecture: transformers' class of the bare encoder.
        encoder_config: `(ConfigReader) -> dict`, all arguments of the encoder that are not its
            defaults.
        config_keys: `(encoder_config) -> dict`, its inverse: the keys of `config.json`.
        weights: `(encoder_config) -> list[Weight]`, names of tensors without `prefix`.
        prefix: what the encoder's tensors start with in a checkpoint with a head.
        anchor: a tensor that every checkpoint has, without prefix.
        pooler: a tensor that only encoders with a pooler have, without prefix.
        heads: dict of `Head`, by transformers' class.
        head_prefixes: what the tensors of heads start with, all heads of the family.
        buffers: tensors that nothing reads at inference, without prefix; `{i}` is any layer.
        read_tensors: `(read, encoder_config) -> list of problems`, where tensors that are no
            weights change what the encoder computes; it may change the config. `read` takes a
            name without prefix and returns an array, or None where there is no such tensor.
        written_tensors: `(encoder_config) -> dict` of arrays, the same tensors, without prefix.
        ignored_keys: config keys that do not change what the encoder computes.
        renames: endings of tensor names in older checkpoints, and what they are called today.
        keras_hub: `KerasHub`, where it has this family.
        presets: dict of `Preset` by name.
        encoder: class of the encoder.
        antialias_positions: whether transformers antialiases positions that it resizes.
    """

    model_type: str
    architecture: str
    encoder_config: Callable
    config_keys: Callable
    weights: Callable
    prefix: str
    anchor: str
    pooler: str | None = None
    heads: dict = dataclasses.field(default_factory=dict)
    head_prefixes: tuple = ()
    buffers: frozenset = frozenset()
    read_tensors: Callable | None = None
    written_tensors: Callable | None = None
    ignored_keys: frozenset = frozenset()
    renames: dict = dataclasses.field(default_factory=dict)
    keras_hub: KerasHub | None = None
    presets: dict = dataclasses.field(default_factory=dict)
    encoder: type = TransformerEncoder
    antialias_positions: bool = False

    def encoder_weights(self, config, prefix):
        """The encoder's table, with the prefix of a checkpoint."""
        rows = self.weights(config)
        return [dataclasses.replace(row, tensor=prefix + row.tensor) for row in rows]

    def is_buffer(self, name):
        """Whether a tensor, without prefix, is no weight of the encoder."""
        return re.sub(r"(?<=\.)\d+(?=\.)", "{i}", name) in self.buffers
