"""Walking a functional model: every operation of it and of the models inside it, in order."""

import keras
from keras.src.models.functional import Functional


def walk(model, inputs, call):
    """Runs a functional model with `call` in the place of its operations.

    Args:
        model: a functional Keras model. Models inside it are walked through too.
        inputs: values for `model.inputs`, in the same structure as `model.input`; anything that
            `call` understands: tensors of the backend or symbolic ones.
        call: function `(node, args, kwargs) -> outputs` of a node, one use of `node.operation`
            (mostly a layer), and what the model passes to it.

    Returns:
        The outputs, in the structure of `model.output`.
    """
    values = dict(zip(map(id, model.inputs), keras.tree.flatten(inputs), strict=True))
    for node in nodes(model):
        if any(id(x) not in values for x in node.input_tensors):
            continue
        args, kwargs = node.arguments.fill_in(values)
        if isinstance(node.operation, Functional):
            outputs = _inside(node.operation, args, kwargs, call)
        else:
            outputs = call(node, args, kwargs)
        for symbolic, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
            values[id(symbolic)] = value
    outputs = [values[id(x)] for x in model.outputs]
    return keras.tree.pack_sequence_as(model._outputs_struct, outputs)


def nodes(model):
    """The nodes of a functional model but for its inputs, in the order that they run in."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)


def _inside(model, args, kwargs, call):
    inputs = args[0] if args else kwargs["inputs"]
    return walk(model, inputs, call)
