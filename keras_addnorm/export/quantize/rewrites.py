"""Exact rewritings of a float graph that make it easier to round.

Each leaves what the graph computes as it is, but for the order of float additions.
"""

import numpy as np

from keras_addnorm.export.quantize import calibration
from keras_addnorm.export.quantize.equalize import channel_divisors, divide_inputs

# One of so many channels of a feed-forward layer is kept apart as an outlier.
CHANNELS_PER_OUTLIER = 24


def find_feed_forwards(graph):
    """List of (expand, GELU, contract): two products by constant matrices, and what is between."""
    found = []
    for gelu in graph.find("GELU"):
        expand = graph.producer(int(gelu.inputs[0]))
        before, after = graph.consumers(int(gelu.inputs[0])), graph.consumers(int(gelu.outputs[0]))
        if len(before) == len(after) == 1 and expand is not None:
            if all(_is_own_matrix(graph, operator) for operator in (expand, after[0])):
                found.append((expand, gelu, after[0]))
    return found


def _is_own_matrix(graph, operator):
    """Whether it multiplies rows of vectors by a constant that no other operator reads."""
    if graph.name(operator) != "FULLY_CONNECTED" or len(graph.shape(operator.outputs[0])) != 2:
        return False
    weight = int(operator.inputs[1])
    return graph.dtype(weight) == "FLOAT32" and len(graph.consumers(weight)) == 1


def split_outliers(graph, feed_forwards, samples):
    """Gives the largest hidden channels of feed-forward layers a branch of their own.

    One of a layer's thousand channels may reach ten times what the others do (LLM.int8(), arXiv
    2208.07339), and a range that holds it leaves the others a tenth of the steps.

    Args:
        graph: a float32 `Graph`; edited in place.
        feed_forwards: what `find_feed_forwards` returned.
        samples: as in `calibration.record`.

    Returns:
        List of (expand, GELU, contract) of the branches.
    """
    hidden = [int(expand.outputs[0]) for expand, _, _ in feed_forwards]
    recorded = calibration.record(graph, hidden, samples)
    return [
        _split(graph, *operators, np.abs(recorded[tensor]).max(axis=0))
        for operators, tensor in zip(feed_forwards, hidden, strict=True)
    ]


def _split(graph, expand, gelu, contract, sizes):
    count = -(-len(sizes) // CHANNELS_PER_OUTLIER)
    outliers = np.sort(np.argsort(-sizes)[:count])
    others = np.setdiff1d(np.arange(len(sizes)), outliers)
    hidden, active, output = (int(op.outputs[0]) for op in (expand, gelu, contract))
    name, rows = graph.tensors[hidden].name + b"_outliers", graph.shape(hidden)[0]
    first, second = (graph.constant(int(op.inputs[1])) for op in (expand, contract))
    bias = int(expand.inputs[2]) if len(expand.inputs) > 2 else -1
    small = graph.add_tensor(name, (rows, count), "FLOAT32")
    small_active = graph.add_tensor(name + b"_gelu", (rows, count), "FLOAT32")
    parts = [graph.add_tensor(name + x, graph.shape(output), "FLOAT32") for x in (b"_0", b"_1")]
    small_bias = -1
    if bias >= 0:
        small_bias = graph.add_constant(name + b"_bias", graph.constant(bias)[outliers])
        graph.set_constant(bias, graph.constant(bias)[others])
    branch = (
        _matrix(graph, expand.inputs[0], first[outliers], small_bias, small),
        graph.make_operator("GELU", [small], [small_active]),
        _matrix(graph, small_active, second[:, outliers], -1, parts[1]),
    )
    branch[1].builtinOptions, branch[1].builtinOptionsType = (
        gelu.builtinOptions,
        gelu.builtinOptionsType,
    )
    graph.set_constant(int(expand.inputs[1]), first[others])
    graph.set_constant(int(contract.inputs[1]), np.ascontiguousarray(second[:, others]))
    for tensor in (hidden, active):
        _resize(graph, tensor, (rows, len(others)))
    contract.outputs = np.array([parts[0]], "int32")
    added = graph.make_operator("ADD", parts, [output], fusedActivationFunction=0)
    graph.replace(contract, contract, *branch, added)
    return branch


def _matrix(graph, source, weight, bias, output):
    name = graph.tensors[output].name + b"_weight"
    inputs = [int(source), graph.add_constant(name, np.ascontiguousarray(weight)), bias]
    return graph.make_operator("FULLY_CONNECTED", inputs, [output], fusedActivationFunction=0)


def _resize(graph, tensor, shape):
    target = graph.tensors[tensor]
    target.shape = np.array([1 if size is None else size for size in shape], "int32")
    if target.shapeSignature is not None and len(target.shapeSignature):
        signature = [-1 if size is None else size for size in shape]
        target.shapeSignature = np.array(signature, "int32")


def equalize_inputs(graph, groups, samples):
    """Divides the channels of inputs of matrix products by constants, as `equalize` does.

    A range that is fixed beforehand always gains by it.

    Args:
        graph: a float32 `Graph`; edited in place.
        groups: dict by tensor of lists of the FULLY_CONNECTED operators that shall read the
            divided one; their weights, which nothing else reads, are multiplied.
        samples: as in `calibration.record`.
    """
    recorded = calibration.record(graph, groups, samples)
    for tensor, operators in groups.items():
        matrices = [graph.constant(int(operator.inputs[1])) for operator in operators]
        divide_inputs(graph, tensor, operators, channel_divisors(recorded[tensor], matrices))


def scale_outputs(graph, operators, samples):
    """Makes matrix products return channels of equal size, and multiplies them back afterwards.

    Rounded in between, each channel then has steps of its own.

    Args:
        graph, samples: as in `equalize_inputs`.
        operators: FULLY_CONNECTED operators of weights that nothing else reads.
    """
    outputs = [int(operator.outputs[0]) for operator in operators]
    recorded = calibration.record(graph, outputs, samples)
    for operator, output in zip(operators, outputs, strict=True):
        largest = np.abs(recorded[output]).max(axis=0)
        sizes = np.maximum(largest, max(1e-3 * largest.max(), 1e-30)).astype("float32")
        weight, *bias = map(int, operator.inputs[1:])
        graph.set_constant(weight, graph.constant(weight) / sizes[:, None])
        name = graph.tensors[output].name
        if bias and bias[0] >= 0:
            scaled_bias = graph.add_constant(name + b"_bias", graph.constant(bias[0]) / sizes)
            operator.inputs = np.array([operator.inputs[0], weight, scaled_bias], "int32")
        scaled = graph.add_tensor(name + b"_scaled", graph.shape(output), "FLOAT32")
        operator.outputs = np.array([scaled], "int32")
        factors = graph.add_constant(name + b"_sizes", sizes)
        back = graph.make_operator("MUL", [scaled, factors], [output], fusedActivationFunction=0)
        graph.replace(operator, operator, back)


def split_tables(graph):
    """Gives each row of the tables that GATHER reads a factor of its own: two look-ups, a product.

    Rounded, the rows then have steps of their own size, which a table's single scale cannot give.
    """
    for gather in graph.find("GATHER"):
        table, ids = map(int, gather.inputs)
        if not graph.is_constant(table) or graph.dtype(table) != "FLOAT32":
            continue
        values, output = graph.constant(table), int(gather.outputs[0])
        if values.ndim != 2 or gather.builtinOptions.axis not in (0, -2):
            continue
        sizes = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-30)
        name, shape = graph.tensors[output].name, graph.shape(output)
        parts = (
            graph.add_tensor(name + b"_rows", shape, "FLOAT32"),
            graph.add_tensor(name + b"_sizes", (*shape[:-1], 1), "FLOAT32"),
        )
        tables = (
            graph.add_constant(name + b"_row_table", values / sizes),
            graph.add_constant(name + b"_size_table", sizes),
        )
        looks = [
            graph.make_operator("GATHER", [t, ids], [part], axis=0)
            for t, part in zip(tables, parts, strict=True)
        ]
        product = graph.make_operator("MUL", parts, [output], fusedActivationFunction=0)
        graph.replace(gather, *looks, product)


def square_by_product(graph):
    """Turns mean(c * c) over the last axis into a product of each vector with itself.

    Squares have twice the digits of what they come from: summed inside one operator, they are
    rounded once, as a sum.

    Returns:
        List of the BATCH_MATMUL operators.
    """
    made = []
    for square in graph.find("MUL"):
        source, other = map(int, square.inputs)
        readers = graph.consumers(int(square.outputs[0]))
        if source != other or len(readers) != 1 or graph.name(readers[0]) != "MEAN":
            continue
        mean = readers[0]
        output, shape = int(mean.outputs[0]), graph.shape(source)
        if len(shape) != 2 or graph.shape(output) != (shape[0], 1):
            continue
        made.append(_product_with_itself(graph, square, mean, source, output))
    return made


def _product_with_itself(graph, square, mean, source, output):
    rows, features = graph.shape(source)
    name = graph.tensors[output].name
    row = graph.add_tensor(name + b"_row", (rows, 1, features), "FLOAT32")
    cube = graph.add_tensor(name + b"_product", (rows, 1, 1), "FLOAT32")
    total = graph.add_tensor(name + b"_sum", (rows, 1), "FLOAT32")
    part = graph.add_constant(name + b"_part", np.array([1 / features], "float32"))
    product = graph.make_operator("BATCH_MATMUL", [row, row], [cube])
    product.builtinOptionsType = graph.schema.BuiltinOptions.BatchMatMulOptions
    product.builtinOptions = graph.schema.BatchMatMulOptionsT(adjY=True)
    graph.replace(
        square,
        reshape(graph, source, row, (-1, 1, features)),
        product,
        reshape(graph, cube, total, (-1, 1)),
    )
    scaled = graph.make_operator("MUL", [total, part], [output], fusedActivationFunction=0)
    graph.replace(mean, scaled)
    return product


def reshape(graph, source, target, shape):
    """A RESHAPE operator to a shape with at most one -1."""
    name = graph.tensors[target].name + b"_shape"
    sizes = graph.add_constant(name, np.array(shape, "int32"))
    return graph.make_operator("RESHAPE", [source, sizes], [target], newShape=list(shape))
