"""Rotary position embedding."""

import keras
import numpy as np
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.position_encoding import check_length, table_tensor
from keras_addnorm.layers.precision import narrow, widen

# What frequencies may be rounded to; None is float64.
FREQUENCY_DTYPES = (None, "float32", "float16")


def rotation_angles(length, features, max_wavelength, scaling_factor, frequency_dtype=None):
    """Angles in float64, shape `(length, features / 2)`: pos / scaling / wavelength^(2i / d)."""
    frequencies = rotation_frequencies(features, max_wavelength, frequency_dtype)
    return np.arange(length, dtype="float64")[:, None] / scaling_factor * frequencies


def rotation_frequencies(features, max_wavelength, frequency_dtype=None):
    """1 / wavelength^(2i / d) in float64, after rounding to `frequency_dtype`."""
    frequencies = float(max_wavelength) ** (-np.arange(0, features, 2) / features)
    if frequency_dtype is None:
        return frequencies
    # By way of float32, as a model that is computed in float32 and stored in half precision.
    return frequencies.astype("float32").astype(frequency_dtype).astype("float64")


@keras.saving.register_keras_serializable(package="keras_addnorm")
class RotaryEmbedding(keras.layers.Layer):
    """Rotates pairs of features of queries and keys by angles proportional to the position.

        angle[pos, i] = pos / scaling_factor / max_wavelength^(2i / rotary_dim)
        (a, b) -> (a cos - b sin, a sin + b cos)

    The pair i is the features i and i + rotary_dim / 2, as in GPT-NeoX and ModernBERT, or 2i and
    2i + 1 with `interleaved=True`, as in the paper. Sines are computed once in float64; half
    precision is rotated in float32.

    Args:
        max_wavelength: float above 0, the base.
        rotary_dim: int, how many of a head's first features are rotated. Default: all.
        scaling_factor: float above 0; positions are divided by it.
        interleaved: bool, which features make a pair.
        max_sequence_length: int, the longest sequence.
        frequency_dtype: `"float32"`, `"float16"` or None, what the angles of position 1 are
            rounded to. ESM-2 was trained with half precision, in which the angles of position
            1000 are up to 0.16 off. Default: no rounding.

    Call arguments:
        x: float tensor `(batch, length, heads, features)`.

    Output shape:
        The shape of `x`.

    Raises:
        ValueError: on an invalid argument, an odd or too large `rotary_dim`, or a longer sequence.

    Example:

    ```python
    q = RotaryEmbedding()(keras.random.normal((2, 7, 4, 16)))
    y = MultiHeadAttention(4, rotary={"max_wavelength": 160000.0})(x)
    ```

    Source: Su et al., arXiv:2104.09864, equation 34; scaling: Chen et al., arXiv:2306.15595.
    """

    def __init__(
        self,
        max_wavelength=10000.0,
        rotary_dim=None,
        scaling_factor=1.0,
        interleaved=False,
        max_sequence_length=512,
        frequency_dtype=None,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(RotaryEmbedding, kwargs))
        owner = "RotaryEmbedding"
        self.max_wavelength = checks.positive(owner, "max_wavelength", max_wavelength)
        self.rotary_dim = checks.optional_positive_int(owner, "rotary_dim", rotary_dim)
        self.scaling_factor = checks.positive(owner, "scaling_factor", scaling_factor)
        self.interleaved = bool(interleaved)
        self.max_sequence_length = checks.positive_int(
            owner, "max_sequence_length", max_sequence_length
        )
        self.frequency_dtype = checks.choice(
            owner, "frequency_dtype", frequency_dtype, FREQUENCY_DTYPES
        )

    def build(self, x_shape):
        features = x_shape[-1]
        self._size = self.rotary_dim or features
        if self._size % 2 or self._size > features:
            raise ValueError(
                "RotaryEmbedding: `rotary_dim` must be even and at most the features of a head. "
                f"Received: rotary_dim={self._size}, features={features}. Pass an even rotary_dim."
            )
        arguments = (self.max_sequence_length, self._size, self.max_wavelength)
        angles = rotation_angles(*arguments, self.scaling_factor, self.frequency_dtype)
        angles = np.repeat(angles, 2, -1) if self.interleaved else np.tile(angles, 2)
        self._cos, self._sin = np.cos(angles), np.sin(angles)
        self.built = True

    def call(self, x):
        check_length("RotaryEmbedding", ops.shape(x)[1], self.max_sequence_length)
        rotated = widen(x[..., : self._size] if self._size < x.shape[-1] else x)
        rotated = ops.add(
            ops.multiply(rotated, self._rows(self._cos, x, rotated.dtype)),
            ops.multiply(self._turn(rotated), self._rows(self._sin, x, rotated.dtype)),
        )
        rotated = narrow(rotated, self.compute_dtype)
        if self._size == x.shape[-1]:
            return rotated
        return ops.concatenate([rotated, x[..., self._size :]], axis=-1)

    def _rows(self, table, like, dtype):
        """Rows of a table for the positions of `like`, shape `(1, length, 1, rotary_dim)`."""
        length = ops.shape(like)[1]
        if isinstance(length, int):
            return table_tensor(table[None, :length, None], dtype)
        return table_tensor(table[None, :, None], dtype)[:, :length]

    def _turn(self, x):
        """The pairs (a, b) as (-b, a)."""
        if not self.interleaved:
            half = self._size // 2
            return ops.concatenate([ops.negative(x[..., half:]), x[..., :half]], axis=-1)
        # A fixed matrix swaps neighbours: strides over features would leave the delegates.
        matrix = np.zeros((self._size, self._size))
        even = np.arange(0, self._size, 2)
        matrix[even + 1, even], matrix[even, even + 1] = -1.0, 1.0
        return ops.matmul(x, ops.convert_to_tensor(matrix, x.dtype))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "rotary_dim": self.rotary_dim,
            "scaling_factor": self.scaling_factor,
            "interleaved": self.interleaved,
            "max_sequence_length": self.max_sequence_length,
            "frequency_dtype": self.frequency_dtype,
        }
