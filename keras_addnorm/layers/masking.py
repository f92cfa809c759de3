"""The one masking rule of attention: masks multiply, and a masked score is pushed to -1e30.

A mask is 1 (or True) where a position may be attended to and 0 (or False) where not. All masks
of a call combine into one float32 tensor `keep` of rank 4 that broadcasts to
`(batch, heads, queries, keys)`. Scores are masked by multiplication and subtraction, not by
`where`: a converted graph then holds no SELECT, which would split it into many delegate partitions.
"""

import contextlib
import contextvars

import keras
import numpy as np
from keras import ops
from keras.src.backend import get_keras_mask

from keras_addnorm.layers import checks
from keras_addnorm.layers.shapes import positions, reshape

# Large enough that exp underflows to exactly 0 beside any score: those of float16 queries and keys
# reach 1e11, inputs of 1e4 make some of 1e9. Small enough that adding a score to it stays finite.
MASKED = 1e30
_MASKED = contextvars.ContextVar("masked", default=MASKED)


@contextlib.contextmanager
def mask_constant(value):
    """What is subtracted from masked scores meanwhile, instead of `MASKED`.

    float16 ends at 65504, and 8-bit activations spread their 256 steps over whatever there is.
    """
    token = _MASKED.set(value)
    try:
        yield
    finally:
        _MASKED.reset(token)


def attached_mask(x):
    """The Keras mask of a tensor, or None.

    The attribute `_keras_mask` is not enough: traced JAX arrays take no attributes, so Keras keeps
    their masks in a table of its own, which no public function reads.
    """
    return get_keras_mask(x)


def combine_masks(query, key, num_heads, *, query_mask, key_mask, value_mask, attention_mask):
    """Combines the masks of one attention call.

    Args:
        query: float tensor `(batch, queries, features)`.
        key: float tensor `(batch, keys, features)`.
        num_heads: int.
        query_mask: `(batch, queries)` or None; a masked query attends to nothing.
        key_mask, value_mask: `(batch, keys)` or None; nothing attends to a masked key.
        attention_mask: `(batch, queries, keys)` or `(batch, heads, queries, keys)` or None.

    Returns:
        float32 tensor of 0 and 1 that broadcasts to `(batch, heads, queries, keys)`, or None
        where nothing is masked.

    Raises:
        ValueError: if a mask has another shape, or, as far as the backend can tell, holds
            fractions or numbers below 0.
    """
    (batch, queries), keys = query.shape[:2], key.shape[1]
    parts = []
    for name, mask in (("key_mask", key_mask), ("value_mask", value_mask)):
        if mask is not None:
            keep = to_keep("MultiHeadAttention", name, mask, batch=batch, keys=keys)
            parts.append(reshape(keep, (keep.shape[0], 1, 1, keep.shape[1])))
    if query_mask is not None:
        keep = to_keep("MultiHeadAttention", "query_mask", query_mask, batch=batch, queries=queries)
        parts.append(reshape(keep, (keep.shape[0], 1, keep.shape[1], 1)))
    if attention_mask is not None:
        attention_mask = ops.convert_to_tensor(attention_mask)
        sizes = {"batch": batch, "heads": num_heads, "queries": queries, "keys": keys}
        if len(attention_mask.shape) != 4:
            del sizes["heads"]
        keep = to_keep("MultiHeadAttention", "attention_mask", attention_mask, **sizes)
        parts.append(ops.expand_dims(keep, 1) if len(sizes) == 3 else keep)
    return multiply_masks(parts)


def multiply_masks(masks):
    """The product of those masks that are not None, or None if all are."""
    product = None
    for mask in masks:
        if mask is not None:
            product = mask if product is None else ops.multiply(product, mask)
    return product


def to_keep(owner, name, mask, **sizes):
    """A mask as a float32 tensor of 0 and 1, after checking that it is one.

    Args:
        owner, name: of the layer and its argument, for the error.
        mask: tensor or array of bool, int or float.
        **sizes: what each axis must be, None where that is not known; 1 always broadcasts.
    """
    mask = ops.convert_to_tensor(mask)
    if not fits(mask.shape, sizes):
        shape = tuple(sizes.values())
        also = " or (batch, heads, queries, keys)" if name == "attention_mask" else ""
        raise ValueError(
            f"{owner}: `{name}` must have shape ({', '.join(sizes)}){also}, here {shape}, with 1 "
            f"or True where a position is kept. Received: a mask of shape {tuple(mask.shape)}. "
            "Reshape it, or pass it as the argument whose shape it has."
        )
    refuse_additive(owner, name, mask)
    return ops.cast(ops.cast(mask, "bool"), "float32")


def checked_bias(bias, query, key, num_heads):
    """A position bias as a float32 tensor, after checking its shape."""
    bias = ops.cast(bias, "float32")
    sizes = {"batch": query.shape[0], "heads": num_heads}
    sizes |= {"queries": query.shape[1], "keys": key.shape[1]}
    if not fits(bias.shape, sizes):
        raise ValueError(
            "MultiHeadAttention: `position_bias` must have shape (batch, heads, queries, "
            f"keys), here {tuple(sizes.values())}, or 1 on some axes. Received: a bias of "
            f"shape {tuple(bias.shape)}. Reshape it to rank 4."
        )
    return bias


def fits(shape, sizes):
    """Whether a shape broadcasts to the values of `sizes`, as far as they are known."""
    pairs = zip(shape, sizes.values(), strict=False)
    return len(shape) == len(sizes) and all(
        size in (1, None) or want in (size, None) for size, want in pairs
    )


def with_attached(owner, name, x, mask):
    """The product of a padding mask of `x` and the Keras mask of `x`; None if there is neither.

    Args:
        owner, name: of the layer and its argument, for the error.
        x: float tensor `(batch, ..., features)`.
        mask: a mask of `x`'s shape without the features, or None.
    """
    sizes = dict(zip(("batch", "length", "heads", "depth"), x.shape[:-1], strict=False))
    attached = attached_mask(x)
    masks = [attached] if mask is None or mask is attached else [mask, attached]
    return multiply_masks([to_keep(owner, name, m, **sizes) for m in masks if m is not None])


def refuse_additive(owner, name, mask):
    """Raises ValueError if a mask holds fractions or numbers below 0, if that can be told."""
    dtype = keras.backend.standardize_dtype(mask.dtype)
    values = None if dtype == "bool" else checks.values(mask)
    if values is None:  # While a graph is traced a tensor has no values yet.
        return
    whole = not keras.backend.is_float_dtype(dtype)
    if (values < 0).any() or not (whole or np.isin(values.astype("float64"), (0.0, 1.0)).all()):
        also = ", or its numbers as `position_bias`" if owner == "MultiHeadAttention" else ""
        raise ValueError(
            f"{owner}: `{name}` must hold 0 and 1 only; masks here multiply, they are not added "
            f"to scores. Received: a mask with values from {values.min()} to {values.max()}. "
            f"Pass `mask == 0` of an additive mask{also}."
        )


def band_mask(query, key, use_causal_mask, sliding_window):
    """The mask that depends on the distance of query i and key j only, rank 4, or None.

    Args:
        query, key: tensors `(batch, length, features)`.
        use_causal_mask: bool; keeps j <= i.
        sliding_window: int or None; keeps |i - j| < sliding_window, as in Keras.
    """
    if not use_causal_mask and sliding_window is None:
        return None
    queries, keys = query.shape[1], key.shape[1]
    if None not in (queries, keys) and not isinstance(query, keras.KerasTensor):
        distance = np.arange(queries)[:, None] - np.arange(keys)
        keep = np.ones(distance.shape, bool) if not use_causal_mask else distance >= 0
        if sliding_window is not None:
            keep = keep & (np.abs(distance) < sliding_window)
        return ops.convert_to_tensor(keep[None, None].astype("float32"))
    rows = ops.reshape(positions(query), (1, 1, -1, 1))
    columns = ops.reshape(positions(key), (1, 1, 1, -1))
    distance = ops.subtract(rows, columns)
    parts = [ops.greater_equal(distance, 0)] if use_causal_mask else []
    if sliding_window is not None:
        parts.append(ops.less(ops.abs(distance), sliding_window))
    return multiply_masks([ops.cast(part, "float32") for part in parts])


def masked_softmax(scores, keep):
    """Softmax over the last axis of float32 `scores` with masked entries at exactly 0."""
    if scores.shape[-1] == 1:  # One key takes it all; Keras warns about such a softmax.
        return ops.ones_like(scores)
    if keep is not None:
        scores = ops.subtract(scores, penalty(keep))
    return ops.softmax(scores, axis=-1)


def penalty(keep):
    """0 where a position is kept, else the mask constant, to be subtracted.

    Not a negative number to be added: with TensorFlow, `ops.add` takes a tensor with one axis
    above 1 for a bias of the last axis, if the sizes agree, whichever axis it is. So are the
    query mask of one sequence as long as its keys, and a padding mask as long as the features.
    """
    return ops.multiply(ops.subtract(1.0, keep), _MASKED.get())


def any_kept(keep):
    """1.0 for each query row that may attend to anything, 0.0 for the others; keeps rank 4."""
    return ops.max(keep, axis=-1, keepdims=True)


def clear_hidden_keys(x, keep):
    """Sets to zero the positions of `x` that no query may attend to, whatever they hold.

    A probability of 0 does not silence NaN and infinity, since 0 times these is NaN.

    Args:
        x: float tensor `(batch, keys, features)`.
        keep: float32 tensor that broadcasts to `(batch, heads, queries, keys)`.
    """
    reachable = ops.max(keep, axis=(1, 2))  # [batch, keys]
    return clear_padding(x, reachable)


def clear_padding(x, keep):
    """Sets positions of `x` `(batch, length, features)` with 0 in `keep` `(batch, length)` to 0."""
    keep = ops.cast(ops.expand_dims(keep, -1), "bool")
    return ops.where(keep, x, 0.0)
