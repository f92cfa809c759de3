"""Reshapes that stay friendly to converters."""

from keras import ops


def reshape(x, shape, like=None):
    """`ops.reshape` where `None` in `shape` means "as in `like`, known only at run time".

    One unknown axis becomes the single -1 of the reshape, so that a converted graph needs no
    shape arithmetic at all; only with more are the sizes of the others read from the same axes
    of `like` (default: `x`).
    """
    unknown = [axis for axis, size in enumerate(shape) if size is None]
    sizes = list(shape)
    for axis in unknown[:-1]:
        sizes[axis] = ops.shape(x if like is None else like)[axis]
    for axis in unknown[-1:]:
        sizes[axis] = -1
    return ops.reshape(x, tuple(sizes))


def flatten(x):
    """Merges all axes but the last: `(..., features)` to `(rows, features)`.

    Dense layers of this package work on such matrices. The result is the same, and TensorFlow
    then needs no `tensordot`, whose shape arithmetic splits a converted graph with an unknown
    length into dozens of delegate partitions.
    """
    return ops.reshape(x, (-1, x.shape[-1]))
