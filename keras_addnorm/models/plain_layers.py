"""What takes the place of a layer in a plain model: a trace of its `call`, a copy, or a rule."""

import functools
import inspect
import types

import keras
import numpy as np
from keras import ops
from keras.src.backend import set_keras_mask

from keras_addnorm.layers import (
    ALiBi,
    LearnedPositionEncoding,
    MultiHeadAttention,
    PowerNormalization,
    RelativeEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    SinusoidalPositionEncoding,
)
from keras_addnorm.layers.masking import attached_mask
from keras_addnorm.layers.norms import MOMENTUM
from keras_addnorm.layers.relative_embedding import distance_rows


def stand_in(trace, layer, name):
    """The counterpart of a layer in a plain model, a function of symbolic tensors.

    Args:
        trace: the `Trace` of the model.
        layer: the layer.
        name: what the counterpart is called.
    """
    for cls, kind in KINDS.items():
        if isinstance(layer, cls):
            return kind(trace, layer, name)
    return (Copied if _is_core(layer) else Traced)(trace, layer, name)


def _is_core(function):
    cls = function if inspect.isfunction(function) else type(function)
    return cls.__module__.split(".")[0] == "keras"


class Traced:
    """A layer that is made of `keras.ops` and other layers: its own `call`, with this as `self`.

    Every attribute is the layer's, but for weights, which are symbolic tensors of the new model,
    sublayers, which are stand-ins, and the methods in `METHODS`.
    """

    def __init__(self, trace, layer, name):
        self.trace, self.layer, self.label = trace, layer, name

    def __getattr__(self, name):
        if name in ("compute_dtype", "variable_dtype"):
            return "float32"
        attribute = getattr(type(self.layer), name, None)
        if isinstance(attribute, property) and not _is_core(attribute.fget):
            return attribute.fget(self)
        for cls, methods in METHODS.items():
            if isinstance(self.layer, cls) and name in methods:
                return functools.partial(methods[name], self)
        value = getattr(self.layer, name)
        if isinstance(value, keras.Layer):
            return self.trace.layer(value, f"{self.label}_")
        if isinstance(value, keras.Variable):
            return self.trace.weight(self.label, value)
        if inspect.isfunction(value) and _is_core(value):
            return keras.layers.Activation(value)
        if inspect.ismethod(value) and value.__self__ is self.layer:
            return types.MethodType(value.__func__, self)
        return value

    def __call__(self, *args, **kwargs):
        layer, x = self.layer, args[0]
        try:
            outputs = self.call(*args, **kwargs)
        except Exception as error:
            raise ValueError(
                f"to_plain_keras cannot rebuild the layer {self.label!r}, a "
                f"{type(layer).__name__}, from core Keras layers. Leave it out, or make it of "
                f"`keras.ops` and core layers alone. Keras says: {error}"
            ) from error
        if layer.supports_masking:  # as in Keras's own `__call__`
            mask = kwargs.get("mask")
            layer._set_mask_metadata(x, outputs, attached_mask(x) if mask is None else mask)
        return outputs


class Copied:
    """A copy of a core layer, in float32 and with the weights."""

    cls = None  # of the copy, where it is not that of the layer
    compute_dtype = "float32"

    def __init__(self, trace, layer, name):
        self.layer, self.loaded = layer, False
        self.call = layer.call  # for those who ask for its arguments
        self.activation = None
        config = {**self.config(layer), "name": trace.name(name), "dtype": "float32"}
        activation = getattr(layer, "activation", None)
        if inspect.isfunction(activation) and not _is_core(activation):
            config["activation"], self.activation = "linear", activation
        try:
            self.copy = (self.cls or type(layer)).from_config(config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"to_plain_keras cannot copy the layer {name!r}, a {type(layer).__name__}. Leave "
                f"out what is not Keras's own. Keras says: {error}"
            ) from error
        self.copy.trainable = layer.trainable

    def config(self, layer):
        """The arguments of the copy; initializers may be of other packages, and are done with."""
        kept = layer.get_config().items()
        return {k: v for k, v in kept if not k.endswith("_initializer") and "lora" not in k}

    def weights(self):
        """The values of the weights of the copy, in its order."""
        if getattr(self.layer, "lora_enabled", False):  # These attributes have the factors in.
            return [getattr(self.layer, weight.name) for weight in self.copy.weights]
        return self.layer.weights

    def __call__(self, *args, **kwargs):
        outputs = _without_masks(self.copy, *args, **kwargs)
        if not self.loaded:
            self.copy.set_weights(
                [ops.convert_to_numpy(w).astype("float32") for w in self.weights()]
            )
            self.loaded = True
        return outputs if self.activation is None else self.activation(outputs)


def _without_masks(layer, *args, **kwargs):
    """A call in which tensors have no Keras masks: layers of this package read them themselves,
    and where they are none when the model runs there should be none when it is made."""
    tensors = [x for x in keras.tree.flatten(args) if isinstance(x, keras.KerasTensor)]
    masks = [attached_mask(x) for x in tensors]
    for x in tensors:
        set_keras_mask(x, None)
    outputs = layer(*args, **kwargs)
    for x, mask in zip(tensors, masks, strict=True):
        set_keras_mask(x, mask)
    return outputs


class _Identity:
    """Nothing: a layer that hands on its input is left out."""

    def __init__(self, trace, layer, name):
        self.call = layer.call

    def __call__(self, x, **kwargs):
        return x


class _Dropout(Copied):
    """Keras's own dropout; nothing where the rate is 0."""

    cls = keras.layers.Dropout

    def __new__(cls, trace, layer, name):
        return super().__new__(cls) if layer.rate else _Identity(trace, layer, name)


class _BatchNorm(Copied):
    """The mask of a batch norm must not stay on its output, which Keras attaches it to."""

    def __call__(self, x, mask=None, **kwargs):
        y = super().__call__(x, mask=mask, **kwargs)
        return y if mask is None else ops.copy(y)


class _PowerNorm(Copied):
    """Batch norm of the vectors and their negatives: the mean is 0, and the variance that of x."""

    cls = keras.layers.BatchNormalization

    def config(self, layer):
        return {"epsilon": layer.epsilon, "momentum": MOMENTUM}

    def weights(self):
        layer = self.layer
        zeros = ops.zeros_like(layer.moving_square)
        return [layer.gamma, layer.beta, zeros, layer.moving_square]

    def __call__(self, x, mask=None, **kwargs):
        pair = ops.stack([x, ops.negative(x)], axis=1)
        mask = None if mask is None else ops.stack([mask, mask], axis=1)
        return super().__call__(pair, mask=mask, **kwargs)[:, 0]


# The layers that are neither traced nor simply copied.
KINDS = {
    keras.layers.Dropout: _Dropout,
    keras.layers.Identity: _Identity,
    keras.layers.BatchNormalization: _BatchNorm,
    PowerNormalization: _PowerNorm,
}


# === Methods that read a length, which a symbolic tensor does not have ===


def _sinusoidal(self, like, dtype):
    return ops.expand_dims(self.trace.rows(self.label, self._table, like), 0)


def _learned(self, like, dtype):
    table = self.layer.position_embeddings  # Rows before the first position are never read.
    rows = self.trace.rows(self.label, table, like, start=self.position_offset)
    return ops.expand_dims(rows, 0)


def _rotary_rows(self, table, like, dtype):
    rows = self.trace.rows(self.label, table, like)
    return ops.expand_dims(ops.expand_dims(rows, 1), 0)


def _rotary_turn(self, x):
    if not self.interleaved:
        return RotaryEmbedding._turn(self, x)
    features = np.arange(self._size)  # A matrix would be in the config, number by number.
    signs = np.where(features % 2, 1.0, -1.0).astype("float32")
    return ops.multiply(ops.take(x, features ^ 1, axis=-1), signs)


def _distance(self, x):
    """key - query, int32 `(length, length)`."""
    where = self.trace.positions(x)
    return ops.subtract(ops.expand_dims(where, 0), ops.expand_dims(where, 1))


def _alibi(self, x):
    distance = ops.cast(ops.abs(_distance(self, x)), "float32")
    distance = ops.expand_dims(ops.expand_dims(distance, 0), 0)
    return ops.multiply(distance, -self._slopes.astype("float32"))


def _relative(self, x):
    # Buckets of keys ahead are those of as far keys behind, moved by a constant.
    middle, distance = self.max_sequence_length - 1, _distance(self, x)
    behind = self._buckets[middle::-1].astype("float32")[:, None]
    size = self.trace.lookup(self.label, behind)(ops.abs(distance))
    ahead = ops.multiply(ops.cast(ops.greater(distance, 0), "int32"), self.num_buckets // 2)
    which = ops.add(ops.cast(ops.squeeze(size, -1), "int32"), ahead)  # [length, length]
    bias = self.trace.lookup(self.label, self.layer.relative_attention_bias)(which)
    return ops.expand_dims(ops.transpose(bias, (2, 0, 1)), 0)


def _relative_embedding(self, x):
    """The rows of distances -(length - 1) to 0, and then of 1 to length, the last never used."""
    where, table = self.trace.positions(x), self.layer.relative_embeddings
    last = ops.max(where)
    sizes = [ops.subtract(last, where), ops.minimum(ops.add(where, 1), last)]
    far, outputs = np.arange(self.max_sequence_length), {}
    for name, sign in (("relative_keys", -1), ("relative_queries", 1)):
        tables = [distance_rows(sign * d, self.bucket_size, self.max_distance) for d in (-far, far)]
        rows = [
            self.trace.lookup(self.label, part.astype("float32")[:, None])(size)
            for part, size in zip(tables, sizes, strict=True)
        ]
        rows = ops.cast(ops.squeeze(ops.concatenate(rows), -1), "int32")
        rows = self.norm_layer(self.trace.lookup(self.label, table)(rows))
        outputs[name] = ops.expand_dims(rows, 0)
    return outputs


def _split_heads(self, rows, like, heads):
    x = MultiHeadAttention._split_heads(self, rows, like, heads)
    return ops.repeat(x, self.num_heads // heads, axis=2) if heads < self.num_heads else x


METHODS = {
    ALiBi: {"call": _alibi},
    LearnedPositionEncoding: {"encoding": _learned},
    MultiHeadAttention: {"_split_heads": _split_heads, "_regroup": lambda self, x, *_: x},
    RelativeEmbedding: {"call": _relative_embedding},
    RelativePositionBias: {"call": _relative},
    RotaryEmbedding: {"_rows": _rotary_rows, "_turn": _rotary_turn},
    SinusoidalPositionEncoding: {"encoding": _sinusoidal},
}
