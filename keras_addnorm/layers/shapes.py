"""Shapes and positions that stay friendly to converters, and that symbolic tensors have too.

A `KerasTensor` has no sizes to be read at run time. Where one is given, Keras's own layers take the
place of shape arithmetic, so that the `call` of a layer can be traced into a functional model.
"""

import dataclasses
import functools

import keras
from keras import ops


@dataclasses.dataclass(frozen=True)
class Rows:
    """A tensor `(batch, length, features)`, kept as the matrix of its rows.

    Layers hand it on where a whole model is traced, so that no two of them reshape to and fro.

    Attributes:
        matrix: tensor `(batch * length, features)`.
        shape: tuple `(batch, length, features)`, None where a size is known only at run time.
        like: tensor whose first two axes are batch and length.
    """

    matrix: object
    shape: tuple
    like: object

    @property
    def dtype(self):
        return self.matrix.dtype

    @classmethod
    def of(cls, x):
        """A tensor `(batch, length, features)` as `Rows`."""
        return x if isinstance(x, cls) else cls(flatten(x), tuple(x.shape), x)

    def tensor(self):
        """The tensor itself, of rank 3."""
        return reshape(self.matrix, self.shape, self.like)

    @functools.cached_property
    def first(self):
        """`Rows` of the first position of each sequence alone."""
        batch, length, features = self.shape
        if length == 1:
            return self
        if batch == 1:
            return Rows(self.matrix[:1], (1, 1, features), self.like[:, :1])
        return Rows.of(reshape(self.tensor()[:, :1], (batch, 1, features)))


def sizes(x):
    """`ops.shape` of a tensor or of `Rows`."""
    if isinstance(x, Rows):
        return (*ops.shape(x.like)[:2], x.shape[2])
    return ops.shape(x)


def reshape(x, shape, like=None):
    """`ops.reshape` where `None` in `shape` means "as in `like`, known only at run time".

    One unknown axis becomes the single -1 of the reshape, so that a converted graph needs no
    shape arithmetic at all; only with more are the sizes of the others read from the same axes
    of `like` (default: `x`). With `like` of `Rows`, a matrix that is given the batch and length of
    these becomes `Rows` too.
    """
    if isinstance(like, Rows):
        if len(x.shape) == 2 and len(shape) == 3:
            return Rows(x, tuple(shape), like.like)
        like = like.like
    if tuple(shape) == tuple(x.shape) and len(shape) == 2:
        return x
    unknown = [axis for axis, size in enumerate(shape) if size is None]
    sizes = list(shape)
    for axis in unknown[-1:]:
        sizes[axis] = -1
    if isinstance(x, keras.KerasTensor) and len(unknown) > 1:
        # The axis of the batch stays as it is, which leaves one that is unknown.
        return x if tuple(x.shape) == tuple(shape) else keras.layers.Reshape(sizes[1:])(x)
    for axis in unknown[:-1]:
        sizes[axis] = ops.shape(x if like is None else like)[axis]
    return ops.reshape(x, tuple(sizes))


def flatten(x, features=None):
    """Merges the first axes: `(..., features)` to `(rows, features)`.

    Dense layers of this package work on such matrices. The result is the same, and TensorFlow
    then needs no `tensordot`, whose shape arithmetic splits a converted graph with an unknown
    length into dozens of delegate partitions. A symbolic tensor keeps the first two axes, which
    it could not be given back, or all where the last is to stay.

    Args:
        x: tensor of rank 2 or more.
        features: the size of the last axis, where more than one axis becomes it.
    """
    if isinstance(x, Rows):
        return x.matrix
    if isinstance(x, keras.KerasTensor):
        return x if features is None else reshape(x, (*x.shape[:2], features))
    if len(x.shape) == 2 and features in (None, x.shape[-1]):
        return x
    return ops.reshape(x, (-1, x.shape[-1] if features is None else features))


def positions(x):
    """The numbers 0, 1, ... along axis 1 of `x`, int32 `(length,)`."""
    if isinstance(x, keras.KerasTensor):
        row = x[(0, slice(None), *(0 for _ in x.shape[2:]))]
        return ops.subtract(ops.cumsum(ops.ones_like(row, dtype="int32")), 1)
    return ops.arange(sizes(x)[1], dtype="int32")
