"""dynamic_int8 where rows need ranges of their own, fixed int8 ranges where these are faster.

What XNNPACK gains by fixed ranges: GELU between two integer products is a table look-up, and
probabilities times values is half the time of float at long lengths. What it loses by: anything
that turns scores back into floats, so that queries times keys stays in float.
"""

import dataclasses

import numpy as np

from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.quantize import calibration
from keras_addnorm.export.quantize.equalize import equalize
from keras_addnorm.export.quantize.rewrites import (
    equalize_inputs,
    find_feed_forwards,
    scale_outputs,
    split_outliers,
)
from keras_addnorm.export.quantize.static import MOVES, quantize_operators, tensors_between
from keras_addnorm.export.quantize.weights import find_weights, require_weights, store_int8


@dataclasses.dataclass(frozen=True)
class Attention:
    """Operators of one attention layer.

    Attributes:
        softmax, product: SOFTMAX, and the BATCH_MATMUL of its probabilities and the values.
        moves: operators that bring the values' heads forward, from the product backward.
        values: tensor `(rows, features)` of the values as they are projected.
        merged: tensor `(rows, features)` that the output projection reads.
    """

    softmax: object
    product: object
    moves: tuple
    values: int
    merged: int


def mixed_int8(data, samples, attention=True, feed_forward=True):
    """Weights as in `dynamic_int8`; feed-forward layers and half of attention with fixed ranges.

    The residual stream, norms and scores stay in float32. Any length stays any length.

    Args:
        data: bytes of a float32 .tflite file.
        samples: list of dicts of arrays by input name, as in `calibration.record`. Values beyond
            what they hold are cut off: let there be long texts among them.
        attention: bool, whether probabilities times values is in int8.
        feed_forward: bool, whether feed-forward layers have fixed ranges.

    Returns:
        Bytes of the quantized file.

    Raises:
        ExportError: if `data` is no TFLite model or has no weights, or there are no samples.
    """
    graph = Graph(data)
    require_weights(graph)
    attentions = center_values(graph, find_attentions(graph)) if attention else []
    layers = find_feed_forwards(graph) if feed_forward else []
    if layers:
        split_outliers(graph, layers, samples)
        groups = {int(expand.inputs[0]): [expand] for expand, _, _ in layers}
        equalize_inputs(graph, groups, samples)
        scale_outputs(graph, [contract for _, _, contract in layers], samples)
    selected = [operator for layer in layers for operator in layer]
    selected += [x for found in attentions for x in (*found.moves, found.product)]
    _equalize_others(graph, selected, samples)
    ranges = calibration.ranges(graph, tensors_between(graph, selected), samples)
    ranges |= {int(found.softmax.outputs[0]): (0.0, 1.0) for found in attentions}
    quantize_operators(graph, selected, ranges, float_gelu=True)
    graph = Graph(graph.to_bytes())
    for weight in find_weights(graph):
        store_int8(graph, weight)
    return graph.to_bytes()


def _equalize_others(graph, selected, samples):
    fixed = {id(operator) for operator in selected}
    weights = [w for w in find_weights(graph) if not fixed & set(map(id, w.matrices))]
    equalize(graph, weights, samples)


def find_attentions(graph):
    """List of the `Attention`s of a graph whose projected values are a matrix, one sequence's."""
    return [found for op in graph.find("SOFTMAX") if (found := _attention(graph, op)) is not None]


def _attention(graph, softmax):
    readers = graph.consumers(int(softmax.outputs[0]))
    if len(readers) != 1 or graph.name(readers[0]) != "BATCH_MATMUL":
        return None
    product = readers[0]
    moves, values = [], int(product.inputs[1])
    while (producer := graph.producer(values)) is not None and graph.name(producer) in MOVES:
        moves.append(producer)
        values = int(producer.inputs[0])
    merged = int(product.outputs[0])
    while len(after := graph.consumers(merged)) == 1 and _keeps_rows(graph, after[0]):
        merged = int(after[0].outputs[0])
    shape = graph.shape(values)
    alone = (graph.shape(product.outputs[0]) or (0,))[0] == 1
    if producer is None or len(shape) != 2 or graph.shape(merged) != shape or not alone:
        return None
    return Attention(softmax, product, tuple(moves), values, merged)


def _keeps_rows(graph, operator):
    """Whether it moves heads back into rows, or multiplies them all by one number."""
    if graph.name(operator) == "MUL":
        return set(graph.shape(operator.inputs[1])) <= {1}
    return graph.name(operator) in MOVES


def center_values(graph, attentions):
    """Takes their mean over the sequence from the values, and adds it to the result.

    Exact, as probabilities sum to 1. A row of 500 similar probabilities has them all at half a
    step of int8 or below: what rounding loses of them is then an attention to the mean.

    Args:
        graph: a float32 `Graph` of a batch of 1; edited in place.
        attentions: what `find_attentions` returned.

    Returns:
        The same list with the centered values.
    """
    weights = _position_weights(graph) if attentions else None
    return [_center(graph, found, weights) for found in attentions]


def _position_weights(graph):
    """Tensor `(1, length)`: 1 / n for each of n real positions; None without a `padding_mask`."""
    mask = graph.signature_inputs().get("padding_mask")
    if mask is None or len(graph.shape(mask)) != 2 or graph.dtype(mask) != "INT32":
        return None
    shape, types = graph.shape(mask), graph.schema.TensorType
    keep, total, safe, share = (
        graph.add_tensor(f"position_{name}", size, "FLOAT32")
        for name, size in (("keep", shape), ("total", (1, 1)), ("safe", (1, 1)), ("share", shape))
    )
    axis = graph.add_constant("position_axis", np.array([1], "int32"))
    one = graph.add_constant("position_one", np.array([[1.0]], "float32"))
    graph.operators[:0] = [
        graph.make_operator(
            "CAST", [mask], [keep], inDataType=types.INT32, outDataType=types.FLOAT32
        ),
        _reduce(graph, "SUM", keep, axis, total),
        graph.make_operator("MAXIMUM", [total, one], [safe]),
        graph.make_operator("DIV", [keep, safe], [share], fusedActivationFunction=0),
    ]
    return share


def _reduce(graph, name, source, axis, target):
    operator = graph.make_operator(name, [source, axis], [target])
    operator.builtinOptionsType = graph.schema.BuiltinOptions.ReducerOptions
    operator.builtinOptions = graph.schema.ReducerOptionsT(keepDims=True)
    return operator


def _center(graph, found, weights):
    values, shape = found.values, graph.shape(found.values)
    name = graph.tensors[values].name
    mean = graph.add_tensor(name + b"_mean", (1, shape[1]), "FLOAT32")
    centered = graph.add_tensor(name + b"_centered", shape, "FLOAT32")
    result = graph.add_tensor(name + b"_result", shape, "FLOAT32")
    graph.substitute(values, centered)
    graph.substitute(found.merged, result)
    if weights is None:
        axis = graph.add_constant(name + b"_axis", np.array([0], "int32"))
        average = _reduce(graph, "MEAN", values, axis, mean)
    else:
        average = graph.make_operator("BATCH_MATMUL", [weights, values], [mean])
        average.builtinOptionsType = graph.schema.BuiltinOptions.BatchMatMulOptions
        average.builtinOptions = graph.schema.BatchMatMulOptionsT()
    subtract = graph.make_operator("SUB", [values, mean], [centered], fusedActivationFunction=0)
    add = graph.make_operator("ADD", [found.merged, mean], [result], fusedActivationFunction=0)
    producer, last = graph.producer(values), graph.producer(found.merged)
    graph.replace(producer, producer, average, subtract)
    graph.replace(last, last, add)
    return dataclasses.replace(found, values=centered, merged=result)
