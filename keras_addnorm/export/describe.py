"""What a Keras model is made of, and what it costs to run."""

import dataclasses
import re

import keras
import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.samples import longest_sequence
from keras_addnorm.export.signature import make_exportable, prepare

LENGTHS = (32, 128, 512)


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """The facts about one model.

    Attributes:
        name, model_class: the model's name and class.
        layers: int, blocks of the encoder; None for other models.
        parameters: number of weights.
        parts: dict of numbers of weights by part; `*` stands for the number of a block.
        embedding_share: float, share of the weights that is in tables of embeddings.
        flops: dict of operations of one forward pass of one sequence by its length, or of one
            image by None: 2 for each multiplication and addition of a matrix product or
            convolution; activations, norms and softmax are not counted.
        config: dict of the model's plain settings.
    """

    name: str
    model_class: str
    layers: int | None
    parameters: int
    parts: dict
    embedding_share: float
    flops: dict
    config: dict


def describe(model, sequence_lengths=LENGTHS, progress=lambda step: None):
    """Counts a model's weights and operations.

    Args:
        model: a functional Keras model.
        sequence_lengths: lengths to count operations for; those that the model cannot take are
            left out.
        progress: function called with the name of each step.

    Returns:
        A `ModelDescription`.
    """
    backbone = getattr(model, "backbone", model)
    tables = [x for x in model._flatten_layers() if isinstance(x, keras.layers.Embedding)]
    embedded = sum(count(layer.embeddings.shape) for layer in tables)
    parameters = model.count_params()
    return ModelDescription(
        name=model.name,
        model_class=type(model).__name__,
        layers=getattr(backbone, "num_layers", None),
        parameters=parameters,
        parts=_parts(model),
        embedding_share=embedded / max(parameters, 1),
        flops=_flops_by_length(model, sequence_lengths, progress),
        config=_plain_config(model, backbone),
    )


def count(shape):
    """The number of elements of a shape, as int."""
    return int(np.prod(shape, dtype="int64"))


def _parts(model):
    parts = {}
    for weight in model.weights:
        *layers, _ = weight.path.split("/")
        numbered = bool(layers) and re.search(r"\d", layers[0])
        name = re.sub(r"\d+", "*", "/".join(layers[: 1 if numbered else 2]) or weight.path)
        parts[name] = parts.get(name, 0) + count(weight.shape)
    return parts


def _plain_config(model, backbone):
    config = {}
    for part in dict.fromkeys((model, backbone)):
        plain = {k: v for k, v in part.get_config().items() if isinstance(v, (int, float, str))}
        config |= {k: v for k, v in plain.items() if k not in ("name", "trainable")}
    return config


def _flops_by_length(model, lengths, progress):
    inputs = keras.tree.flatten(prepare(model).input)
    if not any(None in tensor.shape[1:] for tensor in inputs):
        progress("counting operations")
        return {None: flops(model)}
    longest = longest_sequence(model)
    result = {}
    for length in lengths:
        if longest is None or length <= longest:
            progress(f"counting operations at length {length}")
            result[length] = flops(model, length)
    return result


def flops(model, sequence_length=None):
    """Operations of one forward pass of one sequence or image, as in `ModelDescription`.

    Args:
        model: a functional Keras model.
        sequence_length: int, where the model leaves the length open.
    """
    exportable = make_exportable(prepare(model), 1, sequence_length)
    graph = exportable.function.graph
    return sum(_operation_flops(operation) for operation in _operations(graph))


def _operations(graph):
    """All operations of a graph, with those of the functions that it calls."""
    for operation in graph.get_operations():
        name = operation.get_attr("f").name if "f" in operation.node_def.attr else None
        if name is None:
            yield operation
        else:
            yield from _operations(graph._get_function(name).graph)


def _operation_flops(operation):
    """2 for each element of the output and each element that was summed over for it."""
    if operation.type not in ("MatMul", "BatchMatMul", "BatchMatMulV2", "Conv2D", "Einsum"):
        return 0
    left, right = (tuple(tensor.shape) for tensor in operation.inputs)
    output = tuple(operation.outputs[0].shape)
    if None in (*left, *right, *output):
        raise ExportError(f"The sizes of {operation.name} are not known: {left}, {right}.")
    if operation.type == "Conv2D":
        summed = count(right[:-1])
    elif operation.type == "Einsum":
        terms, result = operation.get_attr("equation").decode().split("->")
        sizes = dict(zip(terms.replace(",", ""), (*left, *right), strict=True))
        summed = count([size for axis, size in sizes.items() if axis not in result])
    else:
        flags = ("transpose_a", "adj_x")
        transposed = any(f in operation.node_def.attr and operation.get_attr(f) for f in flags)
        summed = left[-2 if transposed else -1]
    return 2 * count(output) * summed
