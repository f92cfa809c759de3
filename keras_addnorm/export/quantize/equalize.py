"""Making the inputs of integer matrix products easier to round (SmoothQuant, arXiv 2211.10438).

A product that rounds its input at run time gives each vector one scale, which its largest value
sets; the norms of encoders leave a few channels ten times as large as the others. Dividing the
channels by constants, and multiplying the weights' columns with them, changes nothing but what
rounding loses.
"""

import numpy as np

from keras_addnorm.export.products import own_products
from keras_addnorm.export.quantize.calibration import record

MIN_GAIN = 1.5  # how far the error must shrink to be worth a multiplication of the input
MIN_FREE_GAIN = 1.05  # the same where another product takes the factors, which costs nothing
HEADS_FIRST = [0, 2, 1, 3]  # a transpose of (batch, length, heads, features), and the way back


def equalize(graph, weights, samples):
    """Divides the channels of the inputs of a graph's matrix products, where that helps.

    The constants are sqrt(largest input / largest weight) of a channel, of which half the
    difference between channels goes to the weights. Inputs that attention has averaged are divided
    before that, in the weights that make the values; others take a multiplication.

    Args:
        graph: a float32 `Graph`; edited in place.
        weights: its `Weight`s; those of FULLY_CONNECTED operators alone are changed.
        samples: as in `record`.

    Returns:
        Number of inputs that were equalized.
    """
    groups = group_by_input(graph, weights)
    recorded = record(graph, groups, samples)
    changed = 0
    for tensor, operators in groups.items():
        matrices = [graph.constant(int(operator.inputs[1])) for operator in operators]
        divisors = channel_divisors(recorded[tensor], matrices)
        values = value_product(graph, tensor)
        least = MIN_GAIN if values is None else MIN_FREE_GAIN
        if rounding_gain(recorded[tensor], matrices, divisors) < least:
            continue
        if values is None:
            divide_inputs(graph, tensor, operators, divisors)
        else:
            divide_outputs(graph, values, divisors)
            multiply_columns(graph, operators, divisors)
        changed += 1
    return changed


def value_product(graph, tensor):
    """The matrix product whose outputs, averaged by attention, are the channels of a tensor.

    Returns:
        A FULLY_CONNECTED operator with weights of its own; None where there is none.
    """
    shape = graph.shape(tensor)
    for name in ("RESHAPE", "TRANSPOSE", "MUL", "BATCH_MATMUL", "TRANSPOSE", "RESHAPE"):
        operator = graph.producer(tensor)
        if operator is None or tensor in graph.outputs or len(graph.consumers(tensor)) != 1:
            return None
        found = graph.name(operator)
        if name == "MUL" and found == "BATCH_MATMUL":  # Without a mask there is no MUL.
            continue
        if found != name or not _keeps_channels(graph, operator):
            return None
        tensor = int(operator.inputs[1 if name == "BATCH_MATMUL" else 0])
    same = graph.shape(tensor)[-1] == shape[-1] and len(graph.consumers(tensor)) == 1
    product = own_products(graph).get(tensor) if same and tensor not in graph.outputs else None
    activated = product is not None and product.builtinOptions.fusedActivationFunction
    return None if activated else product


def _keeps_channels(graph, operator):
    """Whether an operator of attention leaves (heads, features) of the values in their order."""
    name, inputs = graph.name(operator), list(map(int, operator.inputs))
    if name == "TRANSPOSE":
        return list(graph.constant(inputs[1])) == HEADS_FIRST
    if name == "MUL":  # by a number for each query
        return graph.shape(inputs[1])[-3:-2] == (1,) and graph.shape(inputs[1])[-1] == 1
    if name == "BATCH_MATMUL":
        left, right = map(graph.shape, inputs)
        return len(right) == 4 and left[1] == right[1] and not operator.builtinOptions.adjY
    # A RESHAPE of (heads, features) and heads * features; not one that joins positions.
    joined, split = sorted((graph.shape(inputs[0]), graph.shape(int(operator.outputs[0]))), key=len)
    heads = split[2:]
    return len(split) == 4 and None not in heads and np.prod(heads) == joined[-1]


def group_by_input(graph, weights):
    """Dict of lists of FULLY_CONNECTED operators by the tensor that they read, as they run.

    Weights that any other operator reads, or two of these, are left out: they cannot be changed
    for one of them.
    """
    own = {
        id(weight.matrices[0])
        for weight in weights
        if len(weight.matrices) == 1 and not (weight.lookups or weight.slices or weight.others)
    }
    groups = {}
    for operator in graph.find("FULLY_CONNECTED"):
        if id(operator) in own and not graph.is_constant(operator.inputs[0]):
            groups.setdefault(int(operator.inputs[0]), []).append(operator)
    return groups


def channel_divisors(inputs, matrices):
    """One divisor a channel, float32 `(features,)`, with a geometric mean of 1.

    Args:
        inputs: float array `(vectors, features)`.
        matrices: list of float arrays `(outputs, features)`.
    """
    largest = np.abs(inputs).max(axis=0)
    weights = np.max([np.abs(matrix).max(axis=0) for matrix in matrices], axis=0)
    floor = 1e-3 * max(largest.max(), 1e-30), 1e-3 * max(weights.max(), 1e-30)
    divisors = np.sqrt(np.maximum(largest, floor[0]) / np.maximum(weights, floor[1]))
    return (divisors / np.exp(np.log(divisors).mean())).astype("float32")


def rounding_gain(inputs, matrices, divisors):
    """How many times smaller the squared error of rounding inputs is with divisors."""
    plain = round_inputs(inputs) - inputs
    divided = round_inputs(inputs / divisors) * divisors - inputs
    before, after = (
        sum(float(np.square(error @ matrix.T).sum()) for matrix in matrices)
        for error in (plain, divided)
    )
    return before / max(after, 1e-30)


def round_inputs(inputs):
    """What an integer product makes of float inputs `(vectors, features)`.

    As XNNPACK does it: 256 steps between the smallest and the largest value of a vector and 0.
    """
    low = np.minimum(inputs.min(axis=1, keepdims=True), 0)
    high = np.maximum(inputs.max(axis=1, keepdims=True), 0)
    step = np.maximum((high - low) / 255, 1e-30)
    zero = np.rint(-128 - low / step)
    return (np.clip(np.rint(inputs / step) + zero, -128, 127) - zero) * step


def divide_inputs(graph, tensor, operators, divisors):
    name = graph.tensors[tensor].name
    factors = graph.add_constant(name + b"_factors", 1 / divisors)
    divided = graph.add_tensor(name + b"_equalized", graph.shape(tensor), "FLOAT32")
    product = graph.make_operator("MUL", [tensor, factors], [divided], fusedActivationFunction=0)
    graph.substitute(tensor, divided, operators)
    graph.replace(operators[0], product, operators[0])
    multiply_columns(graph, operators, divisors)


def multiply_columns(graph, operators, factors):
    """Multiplies the columns of weights, one factor `(features,)` for each input of a product."""
    for operator in operators:
        weight = int(operator.inputs[1])
        graph.set_constant(weight, graph.constant(weight) * factors)


def divide_outputs(graph, operator, divisors):
    """Divides the outputs of a matrix product by constants `(outputs,)`, in weights and bias."""
    weight, bias = int(operator.inputs[1]), int(operator.inputs[2])
    graph.set_constant(weight, graph.constant(weight) / divisors[:, None])
    if bias >= 0:
        values = graph.constant(bias) / divisors
        operator.inputs = np.array(operator.inputs, "int32")
        operator.inputs[2] = graph.add_constant(graph.tensors[bias].name + b"_divided", values)
