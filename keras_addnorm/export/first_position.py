"""The part of a model whose results are read at the first position only.

A classifier, and an embedder that pools by `cls`, read one row of what their encoder gives. In its
last block, the queries and everything behind attention are then computed for that row alone: ten
twelfths of the block's products fewer, for the same result. Layers that look at other positions too
stay as they are, and attention with masks or distances for each query.
"""

import inspect

import keras
from keras.src.backend.common.masking import set_keras_mask
from keras.src.models.functional import Functional
from keras.src.ops.numpy import GetItem

from keras_addnorm.export.walk import nodes
from keras_addnorm.layers import (
    AddNorm,
    FeedForward,
    Head,
    MultiHeadAttention,
    Projection,
    SequencePooling,
)
from keras_addnorm.layers.masking import attached_mask
from keras_addnorm.layers.shapes import Rows

_ROW_WISE = (
    FeedForward,
    Head,
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.Identity,
)
_NORMS = (keras.layers.LayerNormalization, keras.layers.RMSNormalization)

# Further arguments of attention that are the same for each query, or told apart here.
_FOR_ALL_QUERIES = {"query", "value", "key", "key_mask", "value_mask", "position_bias"}


def read_everywhere(model):
    """The ids of a functional model's tensors that something reads behind the first position."""
    everywhere = set(map(id, model.outputs))
    _mark(model, everywhere)
    return everywhere


def _mark(model, everywhere):
    for node in reversed(list(nodes(model))):
        operation = node.operation
        if isinstance(operation, Functional):
            outputs = zip(operation.outputs, node.outputs, strict=True)
            everywhere.update(id(inner) for inner, outer in outputs if id(outer) in everywhere)
            _mark(operation, everywhere)
        if pools_first(node) or (
            computes_first(node, everywhere) and type(operation) is not MultiHeadAttention
        ):
            everywhere.update(id(x) for x in node.input_tensors if len(x.shape) != 3)
        else:
            everywhere.update(map(id, node.input_tensors))


def pools_first(node):
    """Whether a node of a functional model takes the first position out of its input."""
    operation = node.operation
    if type(operation) is SequencePooling:
        return operation.pooling == "cls" and not operation.skip
    if type(operation) is not GetItem or len(node.input_tensors[0].shape) != 3:
        return False
    key = node.arguments.args[1]
    # Loaded models have lists where those that are built have tuples.
    if not isinstance(key, (tuple, list)) or len(key) < 2 or key[0] != slice(None):
        return False
    return key[1] in (0, slice(1), slice(0, 1))


def computes_first(node, everywhere):
    """Whether a node's outputs are read at the first position only, and it can be computed there.

    Args:
        node: a node of a functional model.
        everywhere: what `read_everywhere` says of the model.
    """
    if any(id(x) in everywhere or len(x.shape) != 3 for x in node.outputs):
        return False
    operation = node.operation
    if type(operation) is MultiHeadAttention:
        arguments = _arguments(operation, node.arguments.args, node.arguments.kwargs)
        return arguments.keys() <= _FOR_ALL_QUERIES
    if type(operation) in (AddNorm, Projection):
        return not operation.uses_mask
    if type(operation) in _NORMS:
        return getattr(operation, "axis", -1) in (-1, [-1], 2, [2])
    return is_row_wise(operation)


def is_row_wise(operation):
    """Whether an operation computes each row by itself, and so a matrix of rows as well."""
    if type(operation) not in _ROW_WISE:
        return False
    # Functions of Keras look at one row at most, those of others may look at anything.
    function = getattr(operation, "activation", None)
    known = ("keras.src.activations.", "keras_addnorm.")
    own = type(operation) in (FeedForward, Head)  # They hand matrices to their activations.
    return own or function is None or getattr(function, "__module__", "").startswith(known)


def at_first(operation, args, kwargs):
    """The arguments of a call, cut to what its first position is computed from."""
    if type(operation) is not MultiHeadAttention:
        return keras.tree.map_structure(_first, (args, kwargs))
    arguments = _arguments(operation, args, kwargs)
    arguments.setdefault("value", arguments["query"])
    arguments["query"] = _first(arguments["query"])
    if "position_bias" in arguments:
        bias = keras.ops.convert_to_tensor(arguments["position_bias"])
        arguments["position_bias"] = bias[:, :, :1]
    return (), arguments


def _arguments(attention, args, kwargs):
    """The arguments of a call of attention by name, without those that are left out."""
    arguments = inspect.signature(attention.call).bind(*args, **kwargs).arguments
    unused = (None, False)
    return {name: x for name, x in arguments.items() if not any(x is y for y in unused)}


def _first(x):
    """The first position of `Rows` or a tensor `(batch, length, features)`; else as it is."""
    if isinstance(x, Rows):
        return x.first
    if not keras.ops.is_tensor(x) or len(x.shape) != 3:
        return x
    cut, mask = x[:, :1], attached_mask(x)
    if mask is not None:
        set_keras_mask(cut, mask[:, :1])
    return cut
