"""What the zoo knows about one family of checkpoints, as data."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of Hugging Face checkpoints.

    Attributes:
        encoder_config: `(ConfigReader) -> dict`, the arguments of `TransformerEncoder`, without
            `pooler`.
        ignored_keys: config keys that do not change what the encoder computes.
        weight_table: `(encoder_config, has_pooler, prefix) -> list[Weight]`.
        renames: endings of tensor names in older checkpoints, and what they are called today.
        prefix: what tensor names start with when the checkpoint has a head, such as `"bert."`.
        anchor: a tensor every checkpoint of the family has, without prefix.
        pooler: `(tensor, activation)`: the tensor that tells that there is a pooler.
        heads: prefixes of tensors that belong to task heads.
        buffers: tensors that are no weights.
        preprocessor: `(folder, encoder_config) -> keras_hub Preprocessor`.
    """

    encoder_config: Callable
    ignored_keys: frozenset
    weight_table: Callable
    renames: dict
    prefix: str
    anchor: str
    pooler: tuple
    heads: tuple
    buffers: frozenset
    preprocessor: Callable
