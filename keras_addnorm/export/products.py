"""The matrix products of a converted graph, without what the converter leaves around them.

    W (gamma n + beta) + b = (W gamma) n + (b + W beta)
    (gamma n + beta) + (W y + b) = gamma n + (W y + (b + beta))

So a norm's beta needs no op, and the products that read one norm read one tensor; TensorFlow's
converter does the first only where a product has a bias and nothing else reads the sum. It also
marks products so that XNNPACK puts a reshape before each, which copies an input that others read.
"""

import numpy as np

from keras_addnorm.export.flatbuffer import Graph

KEEPS_RANK = 5  # the version of FULLY_CONNECTED that can


def simplify_products(data):
    """Moves scales and shifts along the last axis into products; exact in exact arithmetic.

    Args:
        data: bytes of a float32 .tflite file.

    Returns:
        Bytes of the file with fewer ops.

    Raises:
        ExportError: if `data` is no TFLite model.
    """
    graph = Graph(data)
    products = own_products(graph)
    for operator in graph.find("ADD"):
        _move_shift(graph, products, operator)
    for operator in graph.find("MUL"):
        _move_scale(graph, products, operator)
    _run_together(graph, products)
    for operator in graph.find("FULLY_CONNECTED"):
        if len(graph.shape(int(operator.inputs[0]))) == 2:  # It keeps its rank either way.
            operator.builtinOptions.keepNumDims = True
            graph.raise_version(operator, KEEPS_RANK)
    return graph.to_bytes()


def own_products(graph):
    """Dict of FULLY_CONNECTED operators by their output, each the only reader of its constant
    float32 weights, with a constant bias or none."""
    readers = {}
    for operator in graph.operators:
        for tensor in set(map(int, operator.inputs)):
            readers[tensor] = readers.get(tensor, 0) + 1
    products = {}
    for operator in graph.find("FULLY_CONNECTED"):
        _, weight, bias = map(int, [*operator.inputs, -1][:3])
        known = graph.is_constant(weight) and graph.dtype(weight) == "FLOAT32"
        if known and readers[weight] == 1 and (bias < 0 or graph.is_constant(bias)):
            products[int(operator.outputs[0])] = operator
    return products


def _run_together(graph, products):
    """Makes products that read one tensor, as queries, keys and values do, run one after another,
    each followed by what lays its result out: while a cache holds what they read."""
    places = {id(operator): index for index, operator in enumerate(graph.operators)}
    first = {}
    for product in products.values():
        place = first.setdefault(int(product.inputs[0]), places[id(product)])
        operator = product
        while operator is not None:
            places[id(operator)] = place
            operator = _layout(graph, operator)
    graph.operators.sort(key=lambda operator: places[id(operator)])


def _layout(graph, operator):
    """The RESHAPE or TRANSPOSE that alone reads an operator's result, or None."""
    readers = graph.consumers(int(operator.outputs[0]))
    if len(readers) != 1 or graph.name(readers[0]) not in ("RESHAPE", "TRANSPOSE"):
        return None
    return readers[0] if all(map(graph.is_constant, map(int, readers[0].inputs[1:]))) else None


def _move_shift(graph, products, operator):
    """Moves the constant of an ADD into the biases of products that read or join the sum."""
    found = _constant_operand(graph, operator)
    readers = graph.consumers(int(operator.outputs[0]))
    if found is None or not readers:
        return
    tensor, beta = found
    target = int(operator.outputs[0])
    changes = []
    for reader in readers:
        if _reads_as_input(products, reader, target):
            changes.append((reader, graph.constant(int(reader.inputs[1])) @ beta))
        elif (branch := _branch(graph, products, reader, target)) is not None:
            changes.append((branch, beta))
        else:
            return
    for product, shift in changes:
        add_bias(graph, product, shift)
    _bypass(graph, operator, tensor, readers)


def _move_scale(graph, products, operator):
    """Moves the constant of a MUL into the weights of the products that read it."""
    found = _constant_operand(graph, operator)
    if found is None:
        return
    (tensor, gamma), target = found, int(operator.outputs[0])
    readers = graph.consumers(target)
    moving = [reader for reader in readers if _reads_as_input(products, reader, target)]
    for product in moving:
        weight = int(product.inputs[1])
        graph.set_constant(weight, graph.constant(weight) * gamma)
    _bypass(graph, operator, tensor, moving)


def _constant_operand(graph, operator):
    """The tensor and the constant `(features,)` of an ADD or MUL that has one, or None."""
    target, (left, right) = int(operator.outputs[0]), map(int, operator.inputs)
    if graph.is_constant(left):
        left, right = right, left
    options = operator.builtinOptions
    fused = options is not None and options.fusedActivationFunction
    if fused or target in graph.outputs or graph.is_constant(left):
        return None
    values = graph.constant(right)
    same = graph.shape(left) == graph.shape(target)
    fits = values is not None and values.shape == graph.shape(target)[-1:]
    return (left, values) if same and fits and values.dtype == np.float32 else None


def _reads_as_input(products, reader, tensor):
    # What assigns a variable has no outputs.
    product = products.get(int(reader.outputs[0])) if len(reader.outputs) else None
    return product is reader and int(reader.inputs[0]) == tensor


def _branch(graph, products, reader, tensor):
    """The product that an ADD sums with a tensor, if nothing else reads it; None if there is no
    such product."""
    if graph.name(reader) != "ADD":
        return None
    left, right = map(int, reader.inputs)
    other = right if left == tensor else left
    product = products.get(other)
    if product is None or product.builtinOptions.fusedActivationFunction:
        return None
    alone = other not in graph.outputs and len(graph.consumers(other)) == 1
    return product if alone and graph.shape(other) == graph.shape(tensor) else None


def _bypass(graph, operator, tensor, readers):
    """Makes readers of an operator's result read `tensor`, and drops the operator if all do."""
    target = int(operator.outputs[0])
    graph.substitute(target, tensor, readers)
    if not graph.consumers(target):
        graph.replace(operator)


def add_bias(graph, product, shift):
    """Adds a vector `(outputs,)` to the bias of a matrix product, which may have none."""
    _, weight, bias = map(int, [*product.inputs, -1][:3])
    values = shift.astype("float32")
    if bias >= 0:
        values = values + graph.constant(bias)
    name = graph.tensors[weight].name + b"_bias"
    inputs = [*map(int, product.inputs), -1][:3]
    inputs[2] = graph.add_constant(name, values)
    product.inputs = np.array(inputs, "int32")
