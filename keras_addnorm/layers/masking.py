"""The one masking rule of attention: masks multiply, and a masked score is pushed to -1e9.

A mask is 1 (or True) where a position may be attended to and 0 (or False) where not. All masks
of a call combine into one float32 tensor `keep` of rank 4 that broadcasts to
`(batch, heads, queries, keys)`. Only multiplication and addition are used, no `where`: a
converted graph then holds no SELECT, which would split it into many delegate partitions.
"""

import numpy as np
from keras import ops
from keras.src.backend import get_keras_mask

from keras_addnorm.layers.shapes import reshape

# Large enough that exp underflows to exactly 0 beside any finite float32 score of a real model,
# small enough that adding a score to it stays finite.
MASKED = 1e9


def attached_mask(x):
    """The Keras mask of a tensor, or None.

    The attribute `_keras_mask` is not enough: traced JAX arrays take no attributes, so Keras keeps
    their masks in a table of its own, which no public function reads.
    """
    return get_keras_mask(x)


def _to_float(mask, name, ranks, meaning):
    if len(mask.shape) not in ranks:
        raise ValueError(
            f"MultiHeadAttention: `{name}` must have shape {meaning}. "
            f"Received: a mask of shape {tuple(mask.shape)}."
        )
    return ops.cast(ops.cast(mask, "bool"), "float32")


def _causal(query, key):
    queries, keys = query.shape[1], key.shape[1]
    if queries is not None and keys is not None:
        keep = np.tril(np.ones((1, 1, queries, keys), "float32"))
        return ops.convert_to_tensor(keep)
    rows = reshape(ops.arange(ops.shape(query)[1]), (1, 1, -1, 1))
    columns = reshape(ops.arange(ops.shape(key)[1]), (1, 1, 1, -1))
    return ops.cast(ops.greater_equal(rows, columns), "float32")


def combine_masks(
    query, key, query_mask=None, key_masks=None, attention_mask=None, use_causal_mask=False
):
    """Combines all masks of one attention call.

    Args:
        query: float tensor `(batch, queries, features)`.
        key: float tensor `(batch, keys, features)`.
        query_mask: `(batch, queries)` or None; a masked query attends to nothing.
        key_masks: dict of `(batch, keys)` masks or None by argument name; nothing attends to a
            masked key.
        attention_mask: `(batch, queries, keys)` or `(batch, heads, queries, keys)` or None.
        use_causal_mask: bool, lets query i attend to keys 0 to i only.

    Returns:
        float32 tensor of 0 and 1 that broadcasts to `(batch, heads, queries, keys)`, or None
        where nothing is masked.

    Raises:
        ValueError: if a mask has the wrong rank.
    """
    parts = []
    for name, mask in (key_masks or {}).items():
        if mask is not None:
            keep = _to_float(mask, name, (2,), "(batch, keys)")
            parts.append(reshape(keep, (keep.shape[0], 1, 1, keep.shape[1])))
    if query_mask is not None:
        keep = _to_float(query_mask, "query_mask", (2,), "(batch, queries)")
        parts.append(reshape(keep, (keep.shape[0], 1, keep.shape[1], 1)))
    if attention_mask is not None:
        meaning = "(batch, queries, keys) or (batch, heads, queries, keys)"
        keep = _to_float(attention_mask, "attention_mask", (3, 4), meaning)
        parts.append(ops.expand_dims(keep, 1) if len(keep.shape) == 3 else keep)
    if use_causal_mask:
        parts.append(_causal(query, key))
    if not parts:
        return None
    keep = parts[0]
    for part in parts[1:]:
        keep = ops.multiply(keep, part)
    return keep


def masked_softmax(scores, keep):
    """Softmax over the last axis of float32 `scores` with masked entries at exactly 0."""
    if scores.shape[-1] == 1:  # One key takes it all; Keras warns about such a softmax.
        return ops.ones_like(scores)
    if keep is not None:
        scores = ops.add(scores, ops.multiply(ops.subtract(keep, 1.0), MASKED))
    return ops.softmax(scores, axis=-1)


def any_kept(keep):
    """1.0 for each query row that may attend to anything, 0.0 for the others; keeps rank 4."""
    return ops.max(keep, axis=-1, keepdims=True)
