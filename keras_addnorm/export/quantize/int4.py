"""Weights in four bits, rounded on sample inputs, each layer making good for those before it."""

import numpy as np

from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.products import add_bias
from keras_addnorm.export.quantize.calibration import record
from keras_addnorm.export.quantize.equalize import group_by_input, round_inputs
from keras_addnorm.export.quantize.rounding import round_to_nearest, round_weights, second_moments
from keras_addnorm.export.quantize.sensitivity import most_sensitive
from keras_addnorm.export.quantize.weights import require_weights, store_int8, use_integers

TABLE_BLOCKS = (64, 32)  # columns of a table's row that share a scale: the first that divides it
SHARE = 1 / 6  # of the bytes of int4 matrices: spent on int8 for the most sensitive ones
RECORDED_BYTES = 2**28  # of one recording of the float32 file, where it is of several groups
TABLE_CLIPS = tuple(np.linspace(0.7, 1.1, 9))


def int4(data, samples, block=None, share=SHARE):
    """Weights as int4, matrix products in integers, embedding tables as int4 in blocks.

    In the order they run, each matrix is first fitted (least squares) so that its products with
    the inputs it will get, which are those of the quantized file, are those of the float32 file,
    and then rounded by `round_weights`; its bias takes up what is left of the mean. Where a
    product is added to another tensor, as in a residual stream, the sum is what is fitted.

    Args:
        data: bytes of a float32 .tflite file.
        samples: list of dicts of arrays by input name, as in `record`; texts like those that the
            model is for: some ten thousand tokens, of which more help more.
        block: int, how many columns of a matrix share a scale, a multiple of 32; None for whole
            rows, with which XNNPACK is twice as fast.
        share: float, as in `most_sensitive`: matrices that are stored as int8.

    Returns:
        Bytes of the quantized file.

    Raises:
        ExportError: as `dynamic_int8` and `record`.
    """
    source, graph = Graph(data), Graph(data)
    weights = require_weights(graph)
    groups = group_by_input(graph, weights)
    fitted = {int(operator.inputs[1]) for group in groups.values() for operator in group}
    fitted &= {w.tensor for w in weights if w.values.shape[-1] % (block or 2) == 0}
    precise = most_sensitive(source, fitted, samples, share)
    for weight in weights:
        if table_block := _table_block(graph, weight):
            _store_blocks(graph, weight, table_block)
        elif weight.tensor not in fitted:
            store_int8(graph, weight)
    for tensors, wanted in _recorded(source, groups, samples):
        for tensor in tensors:
            operators = [op for op in groups[tensor] if int(op.inputs[1]) in fitted]
            if operators:
                _fit_group(graph, tensor, operators, samples, wanted, block, precise)
    return graph.to_bytes()


def _recorded(graph, groups, samples):
    """What the float32 file computes, for as many groups at once as memory has room for."""
    left = [
        (tensor, {tensor, *(added_to(graph, operator) for operator in operators)} - {None})
        for tensor, operators in groups.items()
    ]
    room = 0  # for vectors of so many features; how many vectors samples give, a recording tells
    while left:
        some, needed, features = [], set(), 0
        while left and (not some or features + _features(graph, left[0][1]) <= room):
            tensor, tensors = left.pop(0)
            some, needed = [*some, tensor], needed | tensors
            features = _features(graph, needed)
        wanted = record(graph, needed, samples)
        room = RECORDED_BYTES // (4 * max(len(wanted[some[0]]), 1))
        yield some, wanted


def _features(graph, tensors):
    return sum(graph.shape(tensor)[-1] for tensor in tensors)


def _fit_group(graph, tensor, operators, samples, wanted, block, precise):
    """Fits and rounds the matrices that read one tensor, those in `precise` to int8."""
    added = [added_to(graph, operator) for operator in operators]
    given = record(graph, {tensor, *added} - {None}, samples)
    inputs = round_inputs(given[tensor])
    mean, moments = inputs.mean(axis=0), second_moments(inputs)
    for operator, other in zip(operators, added, strict=True):
        weight = int(operator.inputs[1])
        matrix = graph.constant(weight)
        targets = wanted[tensor] @ matrix.T
        if other is not None:
            targets = targets + wanted[other] - given[other]
        matrix = fit(matrix, inputs, targets, moments)
        storage = _storage(weight in precise, block)
        integers, scales = round_weights(matrix, moments, **storage)
        rounded = integers * np.repeat(scales, integers.shape[1] // scales.shape[1], axis=1)
        shift = targets.mean(axis=0) - rounded @ mean
        _store_matrix(graph, weight, integers, scales, storage)
        use_integers(graph, operator)
        add_bias(graph, operator, shift)


def fit(matrix, inputs, targets, moments):
    """The matrix nearest to `matrix` whose products with `inputs` are nearest to `targets`.

    Args:
        matrix: float32 `(outputs, features)`.
        inputs: `(vectors, features)`.
        targets: `(vectors, outputs)`; means do not count, a bias takes them.
        moments: `second_moments` of the inputs, whose damping weighs the two aims.
    """
    inputs = inputs - inputs.mean(axis=0)
    missing = targets - targets.mean(axis=0) - inputs @ matrix.T
    change = np.linalg.solve(moments, (inputs.T @ missing).astype("float64") / len(inputs))
    return (matrix + change.T).astype("float32")


def added_to(graph, operator):
    """The computed tensor that a matrix product is added to, through a RESHAPE; None if none."""
    tensor = int(operator.outputs[0])
    for _ in range(2):
        readers = graph.consumers(tensor)
        if len(readers) != 1:
            return None
        if graph.name(readers[0]) == "ADD":
            left, right = map(int, readers[0].inputs)
            other = right if left == tensor else left
            same = graph.shape(other) == graph.shape(tensor)
            return other if same and not graph.is_constant(other) else None
        if graph.name(readers[0]) != "RESHAPE":
            return None
        tensor = int(readers[0].outputs[0])
    return None


def round_scales(scales):
    """Scales as XNNPACK keeps those of blocks: bfloat16 values within float16's range."""
    bits = np.maximum(scales, 2.0**-14).astype("float32").view("uint32")
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype("uint32").view("float32")


def _storage(precise, block):
    """Arguments of `round_weights`: whole rows in int8 or int4, or blocks in int4."""
    if precise:
        return {"bits": 8, "clips": (1.0,)}
    return {"block": block, "round_scales": round_scales} if block else {}


def _store_matrix(graph, weight, integers, scales, storage):
    in_blocks = "block" in storage
    dtype = "INT8" if storage.get("bits") == 8 else "INT4"
    graph.set_constant(weight, integers, dtype, scales=None if in_blocks else scales[:, 0])
    if in_blocks:
        graph.set_blocks(weight, scales)


def _table_block(graph, weight):
    """Columns that share a scale in a table that lookups alone read; None for other weights."""
    only = weight.lookups and not (weight.matrices or weight.slices or weight.others)
    if not only or weight.values.ndim != 2:
        return None
    if any(graph.dtype(operator.inputs[1]) != "INT32" for operator in weight.lookups):
        return None
    return next((block for block in TABLE_BLOCKS if weight.values.shape[1] % block == 0), None)


def _store_blocks(graph, weight, block):
    """Stores a table as int4 with a scale for each block of a row."""
    integers, scales = quantize_blocks(weight.values, block)
    graph.set_constant(weight.tensor, integers, "INT4")
    graph.set_blocks(weight.tensor, scales)
    for operator in weight.lookups:
        look_up(graph, operator)


def quantize_blocks(values, block):
    """Rounds each block of a row to 16 steps, of a size that gives the least squared error.

    Args:
        values: float32 `(rows, columns)`.
        block: int that divides columns.

    Returns:
        `(integers, scales)`: int8 `(rows, columns)` from -8 to 7, and float32
        `(rows, columns / block)`.
    """
    blocks = values.reshape(-1, block)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    candidates = (round_scales(largest * (clip / 7.5)) for clip in TABLE_CLIPS)
    integers, scales = round_to_nearest(blocks, candidates)
    return integers.reshape(values.shape), scales.reshape(len(values), -1)


def look_up(graph, gather):
    """Turns a GATHER of a table's rows into an EMBEDDING_LOOKUP, which reads int4 in blocks.

    It takes ids of rank 1: RESHAPEs flatten them and bring back the result's shape, with a single
    open size each, so that a file of any length stays one XNNPACK partition.
    """
    table, ids = map(int, gather.inputs)
    output = int(gather.outputs[0])
    name, shape = graph.tensors[output].name, graph.shape(output)
    sizes = graph.shape(ids)
    length = None if None in sizes else int(np.prod(sizes))
    flat = graph.add_tensor(name + b"_ids", (length,), "INT32")
    rows = graph.add_tensor(name + b"_rows", (length, shape[-1]), "FLOAT32")
    one_row = graph.add_constant(name + b"_flat", np.array([-1], "int32"))
    flatten = graph.make_operator("RESHAPE", [ids, one_row], [flat], newShape=[-1])
    lookup = graph.make_operator("EMBEDDING_LOOKUP", [flat, table], [rows], 4)
    graph.replace(gather, flatten, lookup, *_restore(graph, rows, output, ids))


def _restore(graph, rows, output, ids):
    """Operators that give `rows` the leading sizes of `ids`."""
    name, shape = graph.tensors[output].name, graph.shape(output)
    if shape.count(None) <= 1:
        new = [-1 if size is None else size for size in shape]
        sizes = graph.add_constant(name + b"_shape", np.array(new, "int32"))
        return [graph.make_operator("RESHAPE", [rows, sizes], [output], newShape=new)]
    leading = graph.add_tensor(name + b"_leading", (len(shape) - 1,), "INT32")
    sizes = graph.add_tensor(name + b"_sizes", (len(shape),), "INT32")
    last = graph.add_constant(name + b"_last", np.array(shape[-1:], "int32"))
    int32 = graph.schema.TensorType.INT32
    return [
        graph.make_operator("SHAPE", [ids], [leading], outType=int32),
        graph.make_operator("CONCATENATION", [leading, last], [sizes], axis=0),
        graph.make_operator("RESHAPE", [rows, sizes], [output]),
    ]
