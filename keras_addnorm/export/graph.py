"""The inference graph of a model: what its layers compute, in the form that runtimes run best.

XNNPACK, the CPU delegate of LiteRT, runs a graph fastest as one partition of 2-D fully connected
ops, without gathers of shapes, selects or two unknown sizes in one reshape. So the stream travels
from layer to layer as the matrix of its rows (`Rows`), ids are looked up without Keras's wrap of
negative ones, and attention subtracts a finite mask constant. A layer that is not ours gets the
tensors that it was built for.
"""

import contextlib
import dataclasses
import functools
import inspect

import keras

from keras_addnorm.export.first_position import (
    at_first,
    computes_first,
    is_row_wise,
    pools_first,
    read_everywhere,
)
from keras_addnorm.export.walk import walk
from keras_addnorm.layers import (
    AddNorm,
    MultiHeadAttention,
    Projection,
    SequencePooling,
    TokenAndPositionEmbedding,
)
from keras_addnorm.layers.masking import attached_mask, mask_constant
from keras_addnorm.layers.norms import apply_norm
from keras_addnorm.layers.shapes import Rows

# exp(-10000) is 0 beside any score of a trained model, and float16, which GPU delegates compute
# in, ends at 65504.
MASK_CONSTANT = 1e4


@dataclasses.dataclass(frozen=True)
class Constant:
    """An input that always holds one number, which layers of ours need not be told.

    Attributes:
        value: int.
        like: int32 tensor of the input's shape.
    """

    value: int
    like: object

    def tensor(self):
        return keras.ops.full_like(self.like, self.value)


def infer(model, inputs, mask_value=MASK_CONSTANT):
    """Computes a functional model for inference, while a graph is traced.

    Args:
        model: float32 functional Keras model.
        inputs: TensorFlow tensors, or `Constant`s, in the structure of `model.input`.
        mask_value: float, what is subtracted from masked scores.

    Returns:
        The outputs, in the structure of `model.output`.
    """
    with _with_attributes(model), mask_constant(mask_value):
        outputs = walk(model, inputs, functools.partial(_call, read_everywhere(model)))
    return keras.tree.map_structure(_tensor, outputs)


@contextlib.contextmanager
def _with_attributes(model):
    """Traces layers with other attributes than those they are trained with.

    Their guard against NaN and infinity at padded positions is a SELECT, which would split the
    graph into many delegate partitions; what a trained model computes there is finite, and
    verification has padded rows. TensorFlow's exact GELU holds Erfc, which ONNX and tf2onnx do not
    know; TFLite's converter fuses `_gelu` as well.
    """
    changes = (("guard_padding", True, False), ("activation", keras.activations.gelu, _gelu))
    changed = [
        (layer, name, old, new)
        for layer in model._flatten_layers()
        for name, old, new in changes
        if getattr(layer, name, None) is old
    ]
    for layer, name, _, new in changed:
        setattr(layer, name, new)
    try:
        yield
    finally:
        for layer, name, old, _ in changed:
            setattr(layer, name, old)


def _gelu(x):
    """0.5 x (1 + erf(x / sqrt(2)))"""
    half, erf = keras.ops.multiply(x, 0.5), keras.ops.erf(keras.ops.multiply(x, 0.5**0.5))
    return keras.ops.multiply(half, keras.ops.add(erf, 1.0))


def _call(everywhere, node, args, kwargs):
    operation = node.operation
    if computes_first(node, everywhere):
        args, kwargs = at_first(operation, args, kwargs)
    elif type(operation) is SequencePooling and pools_first(node):
        args, kwargs = args[:1], {n: x for n, x in kwargs.items() if n != "padding_mask"}
    if type(operation).__module__.startswith("keras_addnorm."):
        # Where every position is kept, layers need no mask.
        kwargs = {name: x for name, x in kwargs.items() if not _is_constant(x, 1)}
        args = [None if _is_constant(x, 1) else x for x in args]
    form = _form(operation, args, kwargs)
    if form is not None:
        with keras.name_scope(operation.name):
            return form(operation, *args, **kwargs)
    args, kwargs = keras.tree.map_structure(_tensor, (args, kwargs))
    if "training" in getattr(operation, "_call_context_args", {}):
        kwargs["training"] = False
    return operation(*args, **kwargs)


def _form(operation, args, kwargs):
    """What computes an operation from `Rows`, or None."""
    values = keras.tree.flatten((args, kwargs))
    if any(attached_mask(x) is not None for x in values if hasattr(x, "shape")):
        return None  # Keras hands its masks from call to call; a form would lose them.
    if is_row_wise(operation) and len(args) == 1 and isinstance(args[0], Rows):
        return _row_wise
    return FORMS.get(type(operation))


def _tensor(x):
    return x.tensor() if isinstance(x, (Rows, Constant)) else x


def _is_constant(x, value):
    return isinstance(x, Constant) and x.value == value


def _row_wise(layer, rows, **kwargs):
    matrix = layer(rows.matrix, training=False) if _trains(layer) else layer(rows.matrix)
    return Rows(matrix, (*rows.shape[:2], matrix.shape[-1]), rows.like)


def _trains(layer):
    return "training" in inspect.signature(layer.call).parameters


def _add_norm(layer, x, y, mask=None, **kwargs):
    if layer.uses_mask or len(x.shape) != 3:
        return layer(_tensor(x), _tensor(y), mask=mask, training=False)
    x, y = Rows.of(x), Rows.of(y)
    stream, branch = x.matrix, _normalized(layer.branch_norm_layer, y.matrix)
    if layer.branch_scale is not None:
        branch = keras.ops.multiply(branch, layer.scale)
    if layer.residual_scale != 1.0:
        stream = keras.ops.multiply(stream, layer.residual_scale)
    total = keras.ops.add(stream, branch)
    normed = Rows(_normalized(layer.norm_layer, total), x.shape, x.like)
    return (normed, Rows(total, x.shape, x.like)) if layer.return_sum else normed


def _normalized(layer, x):
    """The norm of a matrix of rows; layer norm with five ops on the whole matrix, of Keras's seven.

    c = x - mean(x);  output = c / sqrt(mean(c^2) + epsilon) * gamma + beta
    """
    ops, beyond_rows = keras.ops, getattr(layer, "axis", -1) not in (-1, [-1], [1], 1)
    if type(layer) is not keras.layers.LayerNormalization or beyond_rows:
        return apply_norm("export", layer, x, training=False)
    centered = ops.subtract(x, ops.mean(x, axis=-1, keepdims=True))
    variance = ops.mean(ops.multiply(centered, centered), axis=-1, keepdims=True)
    output = ops.multiply(centered, ops.rsqrt(ops.add(variance, layer.epsilon)))
    if layer.scale:
        output = ops.multiply(output, layer.gamma)
    return ops.add(output, layer.beta) if layer.center else output


def _attention(layer, query, *args, **kwargs):
    """Self-attention on rows; values and keys of their own are rows as well."""
    arguments = inspect.signature(layer.call).bind(query, *args, **kwargs).arguments
    for name in ("query", "value", "key"):
        if arguments.get(name) is not None:
            arguments[name] = Rows.of(arguments[name])
    return layer.call(**{**arguments, "training": False})


def _projection(layer, x, mask=None, **kwargs):
    if layer.uses_mask:
        return layer(_tensor(x), mask=mask, training=False)
    return _row_wise(layer, Rows.of(x))


def _norm(layer, x, **kwargs):
    if not isinstance(x, Rows):
        return layer(x, **kwargs)
    return Rows(_normalized(layer, x.matrix), x.shape, x.like)


def _look_up(layer, ids, **kwargs):
    """Rows of a table. Keras's own lookup first adds the vocabulary size to negative ids: three
    ops, one of them a select."""
    if layer.mask_zero or kwargs:
        return layer(ids, **kwargs)
    return Rows(_gather(layer, ids), (*ids.shape, layer.output_dim), ids).tensor()


def _gather(layer, ids):
    import tensorflow as tf

    ids = keras.ops.reshape(keras.ops.cast(ids, "int32"), (-1,))
    return tf.gather(keras.ops.convert_to_tensor(layer.embeddings), ids)  # [batch * length, dim]


def _embeddings(layer, token_ids, segment_ids=None, mask=None, **kwargs):
    special = (layer.mask_zero, layer.zero_padding, layer.projection_window, layer.project_first)
    if any(special) or layer.mask_token_id is not None or layer._norm_uses_mask:
        segment_ids, mask = _tensor(segment_ids), _tensor(mask)
        return layer(token_ids, segment_ids=segment_ids, mask=mask, training=False)
    x = _gather(layer.token_embedding, token_ids)
    if layer.embedding_scale is not None:
        sqrt = layer.embedding_scale == "sqrt"
        scale = layer.embedding_dim**0.5 if sqrt else layer.embedding_scale
        x = keras.ops.multiply(x, scale)
    shared = None  # Rows that are the same for each sequence, summed up before it runs.
    if layer.position_encoding is not None:
        shared = layer.position_encoding.table("float32")
    if layer.num_segments == 1 or _is_constant(segment_ids, 0):
        first = keras.ops.convert_to_tensor(layer.segment_embedding.embeddings)[:1]
        shared = first if shared is None else keras.ops.add(shared, first)
    elif layer.num_segments > 1:
        x = keras.ops.add(x, _gather(layer.segment_embedding, segment_ids))
    x = Rows(x, (*token_ids.shape, x.shape[-1]), token_ids)
    if layer.position_encoding is not None:
        shared = _first_rows(shared, token_ids)
    if shared is not None:
        x = _plus(x, shared)
    matrix = x.matrix
    if layer.norm_layer is not None:
        matrix = _normalized(layer.norm_layer, matrix)
    if layer.projection is not None:
        matrix = layer.projection(matrix)
    return Rows(matrix, (*x.shape[:2], matrix.shape[-1]), token_ids)


def _first_rows(table, token_ids):
    """As many rows of a table as a sequence has tokens.

    An open number of them is gathered: LiteRT copies rows so, but a slice number by number.
    """
    import tensorflow as tf

    length = token_ids.shape[1]
    if length is not None:
        return table[:length]
    return tf.gather(table, tf.range(keras.ops.shape(token_ids)[1]))


def _plus(x, shared):
    """`Rows` plus the same matrix `(length or 1, features)` for each sequence."""
    if x.shape[0] == 1:
        return Rows(keras.ops.add(x.matrix, shared), x.shape, x.like)
    return Rows.of(keras.ops.add(x.tensor(), keras.ops.expand_dims(shared, 0)))


FORMS = {
    AddNorm: _add_norm,
    MultiHeadAttention: _attention,
    Projection: _projection,
    TokenAndPositionEmbedding: _embeddings,
    keras.layers.Embedding: _look_up,
    keras.layers.ReversibleEmbedding: _look_up,
    keras.layers.LayerNormalization: _norm,
    keras.layers.RMSNormalization: _norm,
}
