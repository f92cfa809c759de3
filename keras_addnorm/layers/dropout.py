"""Dropout whose random numbers are a hash of the position: cheap, and equal on every backend."""

import keras
import numpy as np
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.precision import saturate


def _word(value):
    """A 32-bit word as int32, the one integer type that every backend multiplies and shifts."""
    return np.array(value, "uint32").astype("int32")


# Constants of Wellons's "lowbias32", the least biased of the hashes of this form; its source is
# https://nullprogram.com/blog/2018/07/31/ (public domain). Then the golden ratio, as in TEA.
_FIRST, _SECOND, _GOLDEN = _word(0x7FEB352D), _word(0x846CA68B), _word(0x9E3779B9)


def _xor_shift(h, bits):
    shifted = ops.bitwise_and(ops.right_shift(h, bits), _word(2 ** (32 - bits) - 1))
    return ops.bitwise_xor(h, shifted)


def _hash(h):
    """A bijection of int32 under which similar numbers have nothing in common."""
    h = ops.multiply(_xor_shift(h, 16), _FIRST)
    h = ops.multiply(_xor_shift(h, 15), _SECOND)
    return _xor_shift(h, 16)


def keep_mask(shape, seed, rate):
    """True with probability `1 - rate`, independently for each element.

        row    = hash(i + key),  column = hash(j xor hash(key + golden)),  key = hash(seed)
        keep   = rounds(row + column) >= rate, as a fraction of 2^32

    Rows and columns are hashed apart, so that only two multiplications are left for each element.
    A generator of the backend makes each element's bits from scratch, and within a graph compiled
    by XLA it may do so for each use.

    Args:
        shape: tuple of ints or scalar tensors.
        seed: int tensor `(2,)`, the state of a `keras.random.SeedGenerator`.
        rate: float in [0, 1), met up to 2^-32.
    """
    *rows, columns = shape if len(shape) else (1,)
    count = 1
    for size in rows:
        count = ops.multiply(count, size) if not isinstance(size, int) else count * size
    seed = ops.cast(seed, "int32")
    key = _hash(ops.add(_hash(seed[0]), seed[1]))
    row = ops.reshape(ops.arange(count, dtype="int32"), (-1, 1))
    column = ops.reshape(ops.arange(columns, dtype="int32"), (1, -1))
    row = _hash(ops.add(row, key))
    column = _hash(ops.bitwise_xor(column, _hash(ops.add(key, _GOLDEN))))
    h = ops.multiply(ops.add(row, column), _FIRST)
    h = ops.multiply(_xor_shift(h, 15), _SECOND)  # [rows, columns]
    keep = ops.greater_equal(h, np.int32(min(round(rate * 2**32), 2**32 - 1) - 2**31))
    return ops.reshape(keep, shape)


@keras.saving.register_keras_serializable(package="keras_addnorm")
class Dropout(keras.layers.Dropout):
    """Sets elements to zero at random while training, as `keras.layers.Dropout`.

        output = x keep / (1 - rate),   keep = 1 with probability 1 - rate, else 0

    The same seed drops the same elements on TensorFlow, JAX and torch. See `keep_mask`. Float16
    stays finite.

    Args:
        rate: float in [0, 1), the share of elements to drop.
        noise_shape: shape of the mask, which broadcasts to the input's; None in it stands for the
            input's size. Default: the input's shape.
        seed: int.

    Call arguments:
        inputs: float tensor.
        training: bool, whether anything is dropped.

    Output shape:
        The input's.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    y = Dropout(0.1)(x, training=True)
    ```

    Source: Srivastava et al., JMLR 15 (2014).
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        rate = checks.rate("Dropout", "rate", rate)
        super().__init__(rate, noise_shape, seed, **checks.known_arguments(Dropout, kwargs))

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        shape = ops.shape(inputs)
        if self.noise_shape is not None:
            # A shorter one broadcasts, as in Keras, from the last axis on.
            pairs = zip(self.noise_shape, shape[-len(self.noise_shape) :], strict=True)
            shape = tuple(size if own is None else own for own, size in pairs)
        keep = keep_mask(shape, self.seed_generator.next(), self.rate)
        scaled = saturate(ops.divide(inputs, 1.0 - self.rate))
        return ops.where(keep, scaled, ops.zeros((), scaled.dtype))
