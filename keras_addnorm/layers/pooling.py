"""From one vector a position to one vector a sequence."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.masking import clear_padding, multiply_masks, penalty, with_attached
from keras_addnorm.layers.shapes import positions, reshape

# The floor under a norm before dividing by it, as in torch.nn.functional.normalize.
NORM_FLOOR = 1e-12


def _mean(x, keep):
    return ops.mean(x, axis=1) if keep is None else _weighted(x, keep)


def _weighted_mean(x, keep):
    numbers = _numbers(x)
    return _weighted(x, numbers if keep is None else ops.multiply(numbers, keep))


def _last(x, keep):
    if keep is None:
        return ops.reshape(x[:, -1:], (-1, x.shape[-1]))
    numbers = ops.multiply(_numbers(x), keep)  # 0 where masked
    after = ops.subtract(ops.max(numbers, axis=1, keepdims=True), numbers)
    # 1 at the largest number and 0 at smaller ones; times `keep` for a sequence of padding only.
    return _weighted(x, ops.multiply(keep, ops.relu(ops.subtract(1.0, after))))


def _numbers(x):
    """The numbers 1, 2, ... of the positions, float32 `(1, length)`."""
    return ops.expand_dims(ops.cast(ops.add(positions(x), 1), "float32"), 0)


def _weighted(x, weights):
    """The mean over positions with weights of 0, 1, ...: `(batch, length)` or `(1, length)`."""
    total = ops.matmul(reshape(weights, (weights.shape[0], 1, x.shape[1])), x)
    return ops.divide(
        ops.squeeze(total, 1), ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1.0)
    )


def _max(x, keep):
    if keep is None:
        return ops.max(x, axis=1)
    hidden = reshape(penalty(keep), (keep.shape[0], x.shape[1], 1))
    highest = ops.max(ops.subtract(x, hidden), axis=1)
    return ops.multiply(highest, ops.max(keep, axis=1, keepdims=True))


def _cls(x, keep):
    # `x[:, 0]` would become an op that delegates do not take.
    return ops.reshape(x[:, :1], (-1, x.shape[-1]))


POOLINGS = {
    "mean": _mean,
    "cls": _cls,
    "max": _max,
    "last": _last,
    "weighted_mean": _weighted_mean,
}


@keras.saving.register_keras_serializable(package="keras_addnorm")
class SequencePooling(keras.layers.Layer):
    """Pools a sequence into one vector over its unpadded positions, in float32.

        mean:          sum_t mask_t x_t / sum_t mask_t
        weighted_mean: sum_t t mask_t x_t / sum_t t mask_t      (t = 1, 2, ...)
        max:           max over mask_t = 1
        cls, last:     x of the first position; x of the last one with mask_t = 1
        normalize:     output / max(||output||_2, 1e-12)

    A sequence with no unpadded position pools to zero, but for cls. Padding may be on either side.

    Args:
        pooling: `"mean"`, `"cls"`, `"max"`, `"last"` or `"weighted_mean"`.
        normalize: bool, whether to divide by the Euclidean norm.
        guard_padding: bool, as in `MultiHeadAttention`.
        output_dim: int, features to keep, from the first on, before the normalization (Matryoshka
            embeddings). Default: all.
        skip: int, positions at the start that are left out: the class and register tokens of an
            image, where its patches are pooled.

    Call arguments:
        x: float tensor `(batch, length, features)`.
        padding_mask: `(batch, length)`; True or 1 keeps a position; combined with the Keras mask
            of `x`. Without either, all positions are kept.

    Output shape:
        `(batch, features)`, or `(batch, output_dim)`.

    Raises:
        ValueError: on an invalid argument, and on an `output_dim` above the features there are.

    Example:

    ```python
    x = keras.random.normal((2, 7, 64))
    embedding = SequencePooling("mean", normalize=True)(x, padding_mask=mask)  # (2, 64)
    ```

    Source: Reimers and Gurevych, arXiv:1908.10084, section 3; weighted mean and last: Muennighoff,
    arXiv:2202.08904; output_dim: Kusupati et al., arXiv:2205.13147.
    """

    def __init__(
        self,
        pooling="mean",
        normalize=False,
        guard_padding=True,
        output_dim=None,
        skip=0,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(SequencePooling, kwargs))
        self.supports_masking = True
        self.pooling = checks.choice("SequencePooling", "pooling", pooling, POOLINGS)
        self.normalize = bool(normalize)
        self.guard_padding = bool(guard_padding)
        self.output_dim = checks.optional_positive_int("SequencePooling", "output_dim", output_dim)
        self.skip = checks.non_negative_int("SequencePooling", "skip", skip)

    def build(self, x_shape, padding_mask_shape=None):
        if self.output_dim is not None and self.output_dim > x_shape[-1]:
            raise ValueError(
                "SequencePooling: `output_dim` keeps the first of the features, so it must be at "
                f"most their number. Received: output_dim={self.output_dim}, input of shape "
                f"{tuple(x_shape)}. Pass {x_shape[-1]} or less."
            )
        self.built = True

    def call(self, x, padding_mask=None):
        keep = with_attached("SequencePooling", "padding_mask", x, padding_mask)
        if keep is not None:
            if self.guard_padding and self.pooling != "cls":
                x = clear_padding(x, keep)
        if self.skip and self.pooling == "cls":
            x = x[:, self.skip :]
        elif self.skip:  # Not a slice, which a runtime refuses while it does not know the length.
            later = ops.greater(_numbers(x), self.skip)
            keep = multiply_masks([ops.cast(later, "float32"), keep])
        pooled = POOLINGS[self.pooling](ops.cast(x, "float32"), keep)
        if self.output_dim is not None:
            pooled = pooled[:, : self.output_dim]
        if self.normalize:
            square = ops.sum(ops.square(pooled), axis=-1, keepdims=True)
            pooled = ops.multiply(pooled, ops.rsqrt(ops.maximum(square, NORM_FLOOR**2)))
        return ops.cast(pooled, self.compute_dtype)

    def compute_mask(self, x, mask=None):
        return None  # the axis that a mask speaks of is gone

    def compute_output_shape(self, x_shape, padding_mask_shape=None):
        return (x_shape[0], self.output_dim or x_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "pooling": self.pooling,
            "normalize": self.normalize,
            "guard_padding": self.guard_padding,
            "output_dim": self.output_dim,
            "skip": self.skip,
        }
