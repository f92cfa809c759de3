"""Storing the weights of a .tflite file in fewer bits.

TensorFlow's converter gives a whole embedding table one int8 scale, and float16 tables a second
delegate partition; ai-edge-quantizer leaves tables that a GATHER reads in float32. Here each row
of a table has a scale, and just the rows that are read become float32.
"""

import copy
import dataclasses

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.quantize.equalize import equalize

# Smaller ones stay as they are, as with TensorFlow's converter: they are a fraction of a file.
MIN_ELEMENTS = 1024
SMALLEST_SCALE = float(np.finfo("float32").tiny)  # XNNPACK refuses scales below, and 0


@dataclasses.dataclass(frozen=True)
class Weight:
    """A float32 constant and the operators that read it.

    Attributes:
        tensor: index.
        values: float32 array.
        matrices: operators that multiply by it: FULLY_CONNECTED, CONV_2D; axis 0 is the outputs'.
        lookups: GATHER operators that pick whole rows of it, a row being along the last axis.
        slices: operators that pick its first rows, as of a table of positions: STRIDED_SLICE, and
            GATHER of a RANGE.
        others: operators that do anything else with it.
    """

    tensor: int
    values: np.ndarray
    matrices: tuple
    lookups: tuple
    slices: tuple
    others: tuple


def find_weights(graph):
    """List of the `Weight`s of a `Graph` that have at least `MIN_ELEMENTS` elements.

    Raises:
        ExportError: if one holds NaN or infinity.
    """
    readers = {}
    for operator in graph.operators:
        for position, tensor in enumerate(operator.inputs):
            readers.setdefault(int(tensor), []).append((operator, position))
    weights = []
    for tensor in sorted(readers):
        if not graph.is_constant(tensor) or graph.dtype(tensor) != "FLOAT32":
            continue
        values = graph.constant(tensor)
        if values.size < MIN_ELEMENTS:
            continue
        if not np.isfinite(values).all():
            name = graph.tensors[tensor].name.decode()
            raise ExportError(
                f"Weights must be finite to be quantized. Received: NaN or infinity in {name!r}. "
                "Export a model whose training has not diverged."
            )
        roles = {"matrix": [], "lookup": [], "slice": [], "other": []}
        for operator, position in readers[tensor]:
            roles[_role(graph, operator, position, values)].append(operator)
        weights.append(Weight(tensor, values, *map(tuple, roles.values())))
    return weights


def _role(graph, operator, position, values):
    name = graph.name(operator)
    if (name, position, values.ndim) in (("FULLY_CONNECTED", 1, 2), ("CONV_2D", 1, 4)):
        return "matrix"
    if (name, position) == ("GATHER", 0) and values.ndim > 1:
        options, ids = operator.builtinOptions, graph.producer(int(operator.inputs[1]))
        axis, batch = (options.axis, options.batchDims) if options else (0, 0)
        if axis % values.ndim == values.ndim - 1 or batch:
            return "other"
        return "slice" if ids is not None and graph.name(ids) == "RANGE" else "lookup"
    return "slice" if (name, position) == ("STRIDED_SLICE", 0) and values.ndim > 1 else "other"


def quantize_rows(values, bits=8):
    """Rounds each row to integers of one scale, symmetric around 0.

    Args:
        values: float array `(rows, ...)`.
        bits: int, 8 or 4.

    Returns:
        `(integers, scales)`: int8 of the same shape within +-(2^(bits - 1) - 1), and float32
        `(rows,)`; the nearest to `integers * scales` of each row.
    """
    limit = 2 ** (bits - 1) - 1
    rows = values.reshape(len(values), -1)
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    scales = np.maximum(largest / limit, SMALLEST_SCALE).astype("float32")
    integers = rows * (1 / scales)[:, None]
    np.rint(integers, out=integers)
    return np.clip(integers, -limit, limit).astype("int8").reshape(values.shape), scales


def dynamic_int8(data, samples=None):
    """Weights as int8 with one scale a row; matrix products in integers.

    Inputs of matrix products are rounded to int8 at run time, a scale for each of their rows.

    Args:
        data: bytes of a float32 .tflite file.
        samples: list of dicts of arrays by input name, as in `record`, for `equalize`; None to
            leave the channels as they are.

    Returns:
        Bytes of the quantized file.

    Raises:
        ExportError: if `data` is no TFLite model, or has no weights of `MIN_ELEMENTS` elements.
    """
    graph = Graph(data)
    weights = require_weights(graph)
    if samples:
        equalize(graph, weights, samples)
        weights = require_weights(graph)
    for weight in weights:
        store_int8(graph, weight)
    return graph.to_bytes()


def weight_only_int8(data):
    """Weights as int8 with one scale a row; all arithmetic in float32.

    The file is as small as that of `dynamic_int8`, and runs as fast, and in as much memory, as
    the float32 file. Arguments, returns and raises as `dynamic_int8`.
    """
    graph = Graph(data)
    for weight in require_weights(graph):
        store_int8(graph, weight, in_integers=False)
    return graph.to_bytes()


def float16(data):
    """Weights as float16; all arithmetic in float32, where the hardware has no float16.

    Rows of tables are picked before they become float32. Arguments, returns and raises as
    `dynamic_int8`; raises also where a weight is too large for float16.
    """
    graph = Graph(data)
    for weight in require_weights(graph):
        largest = np.abs(weight.values).max()
        if largest > np.finfo("float16").max:
            raise ExportError(
                f"float16 holds values up to 65504. Received: {largest:.4g} in "
                f"{graph.tensors[weight.tensor].name.decode()!r}. Export with quantization=None or "
                "an int8 recipe."
            )
        graph.set_constant(weight.tensor, weight.values.astype("float16"))
        if others := (*weight.matrices, *weight.slices, *weight.others):
            dequantize(graph, weight.tensor, others, version=3)
        for operator in weight.lookups:
            output = int(operator.outputs[0])
            _dequantize_picked(graph, operator, "FLOAT16", version=3, target=output)
    return graph.to_bytes()


def require_weights(graph):
    """`find_weights` of a graph that has some.

    Raises:
        ExportError: if nothing of `MIN_ELEMENTS` elements is in a matrix product or a table.
    """
    weights = find_weights(graph)
    if not any(weight.matrices or weight.lookups for weight in weights):
        raise ExportError(
            f"Weights under {MIN_ELEMENTS} elements stay in float32. Received: a model without "
            "larger ones in its matrix products and embeddings. Export with quantization=None."
        )
    return weights


def store_int8(graph, weight, in_integers=True):
    """Stores one `Weight` as int8, one scale a row, unless an operator needs it in float32.

    Args:
        graph: the `Graph`.
        weight: the `Weight`.
        in_integers: bool, whether matrix products are computed in integers.
    """
    if weight.others:
        return
    if weight.lookups:
        _store_table(graph, weight)
    if weight.slices:
        _store_sliced(graph, weight)
    if weight.matrices:
        integers, scales = quantize_rows(weight.values)
        graph.set_constant(weight.tensor, integers, scales=scales)
        if in_integers:
            for operator in weight.matrices:
                use_integers(graph, operator)
        else:
            dequantize(graph, weight.tensor, weight.matrices, version=5)


def use_integers(graph, operator):
    """Makes a matrix product read integer weights and round its input by itself."""
    if graph.name(operator) == "FULLY_CONNECTED":
        graph.raise_version(operator, 12)
        # For runtimes without XNNPACK, which always rounds to the range between min and max.
        operator.builtinOptions.asymmetricQuantizeInputs = True
    else:
        graph.raise_version(operator, 5)


def dequantize(graph, tensor, operators, version):
    """Makes operators read a constant through one DEQUANTIZE.

    XNNPACK unpacks such constants once, when it loads a file; they split no partition.
    """
    name, shape = graph.tensors[tensor].name + b"_float32", graph.shape(tensor)
    unpacked = graph.add_tensor(name, shape, "FLOAT32")
    graph.substitute(tensor, unpacked, operators)
    # Before the first one of them: as a file's first operator it would begin a partition.
    first = next(operator for operator in graph.operators if unpacked in operator.inputs)
    unpack = graph.make_operator("DEQUANTIZE", [tensor], [unpacked], version)
    graph.replace(first, unpack, first)


def _store_table(graph, weight):
    """int8 rows, and their scales as a table of one column that is read by the same operators.

    One scale a row in the int8 table itself would be shorter to write, but only the operator
    EMBEDDING_LOOKUP reads it, which takes no ids of rank 2, and it costs 8 bytes a row more.
    """
    name, rows = graph.tensors[weight.tensor].name, weight.values.shape[:-1]
    flat = weight.values.reshape(-1, weight.values.shape[-1])
    integers, scales = quantize_rows(flat)
    table = graph.add_constant(name + b"_int8", integers.reshape(weight.values.shape))
    column = graph.add_constant(name + b"_scales", scales.reshape(*rows, 1))
    graph.tensors[table].quantization = graph.quantization(1.0, 0)
    for operator in weight.lookups:
        output = int(operator.outputs[0])
        shape, label = graph.shape(output), graph.tensors[output].name
        steps = graph.add_tensor(label + b"_steps", shape, "FLOAT32")
        scale = graph.add_tensor(label + b"_scale", (*shape[:-1], 1), "FLOAT32")
        pick = copy.copy(operator)
        pick.inputs, pick.outputs = operator.inputs.copy(), np.array([scale], "int32")
        pick.inputs[0] = column
        operator.inputs = operator.inputs.copy()
        operator.inputs[0] = table
        graph.raise_version(operator, 2)
        product = graph.make_operator("MUL", [steps, scale], [output], fusedActivationFunction=0)
        after = _dequantize_picked(graph, operator, "INT8", version=2, target=steps)
        graph.replace(after, pick, after, product)


def _store_sliced(graph, weight):
    """int8 rows that become float32 as a file is loaded: after the slice, they would split it."""
    shape = weight.values.shape
    integers, scales = quantize_rows(weight.values.reshape(-1, shape[-1]))
    if weight.values.size != shape[-1] * shape[-2]:
        return  # A constant has scales along one axis only.
    name = graph.tensors[weight.tensor].name
    table = graph.add_constant(name + b"_sliced", integers.reshape(shape))
    graph.tensors[table].quantization = graph.quantization(scales, 0, axis=len(shape) - 2)
    graph.substitute(weight.tensor, table, weight.slices)
    dequantize(graph, table, weight.slices, version=5)


def _dequantize_picked(graph, operator, dtype, version, target):
    """Makes an operator that picks rows of a table return `dtype`, and a DEQUANTIZE `target`."""
    name = graph.tensors[target].name + b"_" + dtype.lower().encode()
    picked = graph.add_tensor(name, graph.shape(target), dtype)
    graph.tensors[picked].quantization = graph.tensors[int(operator.inputs[0])].quantization
    operator.outputs = np.array([picked], "int32")
    after = graph.make_operator("DEQUANTIZE", [picked], [target], version)
    graph.replace(operator, operator, after)
    return after
