"""What a lint rule is, what it finds, and what it looks at."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

from keras_addnorm.export.reader import ModelFile

SEVERITIES = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something in a .tflite file that will hurt somewhere; equal ones are counted in one.

    Attributes:
        rule: string, the rule's short name.
        severity: `"error"` (no shipped runtime runs the file as it is), `"warning"` (slow, large,
            inexact or refused somewhere) or `"note"`.
        message: string, what was found.
        count: int, how many times.
        layers: tuple of strings, the paths of the layers it was found in; empty for the file.
        cost: string, what it costs, and where.
        fix: string, what to do about it.
    """

    rule: str
    severity: str
    message: str
    count: int
    layers: tuple
    cost: str
    fix: str


class Hit(NamedTuple):
    """One place where a rule applies; what is None is the rule's own."""

    message: str
    layer: str | None = None
    severity: str | None = None
    cost: str | None = None
    fix: str | None = None


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule as data: its short name, what `Finding` says, and `find`, a function of a `Subject`
    that yields `Hit`s."""

    slug: str
    severity: str
    cost: str
    fix: str
    find: Callable


@dataclasses.dataclass(frozen=True)
class Subject:
    """What rules look at: the file's contents, and what LiteRT said when it loaded the file.

    Attributes:
        model: a `ModelFile`.
        loaded: a `Loaded`.
    """

    model: ModelFile
    loaded: object

    @functools.cached_property
    def operators(self):
        """All operators, each with its graph."""
        return [(graph, op) for graph in self.model.graphs for op in graph.operators]

    @functools.cached_property
    def constants(self):
        """All constants that an operator reads, each with its graph and the first such operator.

        A constant is often shared, and its own name that of a number: the reader names a layer.
        """
        return [
            (graph, tensor, graph.consumers[tensor.index][0])
            for graph in self.model.graphs
            for tensor in graph.tensors
            if tensor.data is not None and tensor.index in graph.consumers
        ]


def layer_of(operator):
    """The path of the layer that an operator comes from, or its own name where it has none.

    Tensors are named after the operation in the layer; fused ones join names with ';'.
    """
    tensors = [t for t in (*operator.outputs, *operator.inputs) if t is not None]
    names = [tensor.name for tensor in tensors if tensor.data is None] or [operator.name]
    # An output of the whole model has the model's name: the op's input says where it is from.
    return layer_of_name(next((name for name in names if "/" in name), names[0]))


def layer_of_name(name):
    """The layer's path in a tensor's name."""
    names = [part for part in name.split(";") if "/" in part] or [name]
    return names[0].rsplit("/", 1)[0] if "/" in names[0] else names[0]


def constant(graph, tensor):
    """A tensor's elements where it is a constant, through the DEQUANTIZE of a float16 file."""
    if tensor is None:
        return None
    producer = graph.producers.get(tensor.index)
    if producer is not None and producer.name == "DEQUANTIZE":
        tensor = producer.inputs[0]
        return tensor.values if tensor is not None and tensor.dtype == "FLOAT16" else None
    return tensor.values if tensor.dtype in ("FLOAT32", "FLOAT16") else None


def between(graph, chosen):
    """Operators that are not chosen, but stand between two that are: they split the chosen.

    Args:
        graph: a `Graph`.
        chosen: set of indices of operators, such as those that a delegate takes.
    """
    after, before = set(), set()
    chosen = chosen & graph.computed  # Constants are unpacked once, and nothing stands behind them.
    for op in graph.operators:
        if any(t is not None and t.index in after for t in op.inputs) or op.index in chosen:
            after.update(tensor.index for tensor in op.outputs)
    for op in reversed(graph.operators):
        if any(tensor.index in before for tensor in op.outputs) or op.index in chosen:
            before.update(tensor.index for tensor in op.inputs if tensor is not None)
    return [
        op
        for op in graph.operators
        if op.index not in chosen
        and any(t is not None and t.index in after for t in op.inputs)
        and any(tensor.index in before for tensor in op.outputs)
    ]
