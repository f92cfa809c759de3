"""From one vector a position to one vector a sequence."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.masking import clear_padding, penalty, with_attached
from keras_addnorm.layers.shapes import reshape

# The floor under a norm before dividing by it, as in torch.nn.functional.normalize.
NORM_FLOOR = 1e-12


def _mean(x, keep):
    if keep is None:
        return ops.mean(x, axis=1)
    total = ops.squeeze(ops.matmul(reshape(keep, (x.shape[0], 1, x.shape[1])), x), 1)
    return ops.divide(total, ops.maximum(ops.sum(keep, axis=1, keepdims=True), 1.0))


def _max(x, keep):
    if keep is None:
        return ops.max(x, axis=1)
    hidden = reshape(penalty(keep), (x.shape[0], x.shape[1], 1))
    highest = ops.max(ops.subtract(x, hidden), axis=1)
    return ops.multiply(highest, ops.max(keep, axis=1, keepdims=True))


def _cls(x, keep):
    # `x[:, 0]` would become an op that delegates do not take.
    return ops.reshape(x[:, :1], (-1, x.shape[-1]))


POOLINGS = {"mean": _mean, "cls": _cls, "max": _max}


@keras.saving.register_keras_serializable(package="keras_addnorm")
class SequencePooling(keras.layers.Layer):
    """Pools a sequence into one vector over its unpadded positions, in float32.

        mean: sum_t mask_t x_t / sum_t mask_t;    max: max over mask_t = 1;    cls: x_0
        normalize: output / max(||output||_2, 1e-12)

    A sequence with no unpadded position pools to zero (mean and max).

    Args:
        pooling: `"mean"`, `"cls"` or `"max"`.
        normalize: bool, whether to divide by the Euclidean norm.
        guard_padding: bool, as in `MultiHeadAttention`.

    Call arguments:
        x: float tensor `(batch, length, features)`.
        padding_mask: `(batch, length)`; True or 1 keeps a position; combined with the Keras mask
            of `x`. Without either, all positions are kept.

    Output shape:
        `(batch, features)`.

    Raises:
        ValueError: on an invalid argument.

    Source: Reimers and Gurevych, arXiv:1908.10084, section 3.
    """

    def __init__(self, pooling="mean", normalize=False, guard_padding=True, **kwargs):
        super().__init__(**checks.known_arguments(SequencePooling, kwargs))
        self.supports_masking = True
        self.pooling = checks.choice("SequencePooling", "pooling", pooling, POOLINGS)
        self.normalize = bool(normalize)
        self.guard_padding = bool(guard_padding)

    def build(self, x_shape, padding_mask_shape=None):
        self.built = True

    def call(self, x, padding_mask=None):
        keep = with_attached("SequencePooling", "padding_mask", x, padding_mask)
        if keep is not None:
            if self.guard_padding and self.pooling != "cls":
                x = clear_padding(x, keep)
        pooled = POOLINGS[self.pooling](ops.cast(x, "float32"), keep)
        if self.normalize:
            square = ops.sum(ops.square(pooled), axis=-1, keepdims=True)
            pooled = ops.multiply(pooled, ops.rsqrt(ops.maximum(square, NORM_FLOOR**2)))
        return ops.cast(pooled, self.compute_dtype)

    def compute_mask(self, x, mask=None):
        return None  # the axis that a mask speaks of is gone

    def compute_output_shape(self, x_shape, padding_mask_shape=None):
        return (x_shape[0], x_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "pooling": self.pooling,
            "normalize": self.normalize,
            "guard_padding": self.guard_padding,
        }
