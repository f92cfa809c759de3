"""Absolute position encodings: one vector for each position, added to the token's."""

import keras
import numpy as np
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import copy_initializer


def sinusoids(length, features, max_wavelength=10000.0):
    """The sinusoid table in float64, shape `(length, features)`.

    PE[pos, 2i] = sin(pos / max_wavelength^(2i / features)), PE[pos, 2i+1] = cos(the same).
    Source: Vaswani et al., arXiv:1706.03762, section 3.5.
    """
    columns = np.arange(features)
    frequencies = float(max_wavelength) ** (-2.0 * (columns // 2) / features)
    angles = np.arange(length, dtype="float64")[:, None] * frequencies
    return np.where(columns % 2 == 0, np.sin(angles), np.cos(angles))


def table_tensor(table, dtype):
    """A float64 table as a tensor, each value rounded once."""
    dtype = keras.backend.standardize_dtype(dtype)
    if dtype == "float16":  # torch would round by way of float32
        table = table.astype(dtype)
    return ops.convert_to_tensor(table, dtype)


def check_length(owner, length, limit):
    """Raises ValueError if a length that is known already is above `limit`."""
    if isinstance(length, int) and length > limit:
        raise ValueError(
            f"{owner} knows positions 0 to {limit - 1}. Received: a sequence of length {length}. "
            f"Truncate it, or pass max_sequence_length={length} or more."
        )


@keras.saving.register_keras_serializable(package="keras_addnorm")
class SinusoidalPositionEncoding(keras.layers.Layer):
    """Fixed sinusoids of geometrically spaced wavelengths, one vector for each position.

        output[..., pos, 2i]   = sin(pos / max_wavelength^(2i / features))
        output[..., pos, 2i+1] = cos(pos / max_wavelength^(2i / features))

    The table is computed once in float64 and rounded once to the compute dtype, so half precision
    is as exact as it can be. Like KerasHub's layer it returns the encoding, to be added to the
    input; unlike it, it keeps the input's Keras mask, so that `keras.layers.Add` keeps it too
    (Keras's `+` drops masks).

    Args:
        max_wavelength: float above 0, the longest wavelength in positions / 2 pi.
        max_sequence_length: int, the longest sequence.

    Call arguments:
        x: float tensor `(batch, length, features)`, of which only the shape is used.

    Output shape:
        The shape of `x`.

    Raises:
        ValueError: on an invalid argument, or a longer sequence.

    Example:

    ```python
    x = keras.layers.Embedding(1000, 64, mask_zero=True)(token_ids)
    x = keras.layers.Add()([x, SinusoidalPositionEncoding()(x)])
    ```

    Source: Vaswani et al., arXiv:1706.03762, section 3.5.
    """

    def __init__(self, max_wavelength=10000.0, max_sequence_length=512, **kwargs):
        super().__init__(**checks.known_arguments(SinusoidalPositionEncoding, kwargs))
        self.supports_masking = True
        owner = "SinusoidalPositionEncoding"
        self.max_wavelength = checks.positive(owner, "max_wavelength", max_wavelength)
        self.max_sequence_length = checks.positive_int(
            owner, "max_sequence_length", max_sequence_length
        )

    def build(self, x_shape):
        _check_features("SinusoidalPositionEncoding", x_shape)
        self._table = sinusoids(self.max_sequence_length, x_shape[-1], self.max_wavelength)
        self.built = True

    def table(self, dtype):
        """The vectors of all positions, shape `(max_sequence_length, features)`."""
        return table_tensor(self._table, dtype)

    def encoding(self, like, dtype):
        """The vectors of the positions along axis 1 of `like`, shape `(1, length, features)`."""
        length = ops.shape(like)[1]
        check_length("SinusoidalPositionEncoding", length, self.max_sequence_length)
        if isinstance(length, int):
            return table_tensor(self._table[None, :length], dtype)
        return self.table(dtype)[None, :length]

    def call(self, x):
        return ops.broadcast_to(self.encoding(x, x.dtype), ops.shape(x))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "max_sequence_length": self.max_sequence_length,
        }


@keras.saving.register_keras_serializable(package="keras_addnorm")
class LearnedPositionEncoding(keras.layers.Layer):
    """A trained table with one vector for each position.

        output[..., pos, :] = position_embeddings[position_offset + pos]

    Args:
        max_sequence_length: int, the longest sequence.
        embeddings_initializer: initializer of the table.
        position_offset: int, rows of the table before that of position 0 (RoBERTa: 2); the table
            has `max_sequence_length + position_offset` rows.

    Call arguments:
        x: float tensor `(batch, length, features)`, of which only the shape is used.

    Output shape:
        The shape of `x`. Its Keras mask is kept.

    Raises:
        ValueError: on an invalid argument, or a longer sequence.

    Example:

    ```python
    x = keras.layers.Add()([x, LearnedPositionEncoding(max_sequence_length=128)(x)])
    ```

    Source: Devlin et al., arXiv:1810.04805, section 3 (figure 2).
    """

    def __init__(
        self,
        max_sequence_length=512,
        embeddings_initializer="glorot_uniform",
        position_offset=0,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(LearnedPositionEncoding, kwargs))
        self.supports_masking = True
        self.max_sequence_length = checks.positive_int(
            "LearnedPositionEncoding", "max_sequence_length", max_sequence_length
        )
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.position_offset = checks.non_negative_int(
            "LearnedPositionEncoding", "position_offset", position_offset
        )

    def build(self, x_shape):
        _check_features("LearnedPositionEncoding", x_shape)
        self.position_embeddings = self.add_weight(
            name="position_embeddings",
            shape=(self.max_sequence_length + self.position_offset, x_shape[-1]),
            initializer=self.embeddings_initializer,
            autocast=False,
        )
        self.built = True

    def table(self, dtype):
        """The vectors of all positions, shape `(max_sequence_length, features)`."""
        table = ops.cast(ops.convert_to_tensor(self.position_embeddings), dtype)
        return table[self.position_offset :]

    def encoding(self, like, dtype):
        """The vectors of the positions along axis 1 of `like`, shape `(1, length, features)`."""
        length = ops.shape(like)[1]
        check_length("LearnedPositionEncoding", length, self.max_sequence_length)
        return ops.expand_dims(self.table(dtype)[:length], 0)

    def call(self, x):
        return ops.broadcast_to(self.encoding(x, x.dtype), ops.shape(x))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_sequence_length": self.max_sequence_length,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "position_offset": self.position_offset,
        }


def _check_features(owner, shape):
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            f"{owner}: `x` must have shape (batch, length, features) with known features. "
            f"Received: a shape of {tuple(shape)}."
        )


POSITIONS = {"sinusoidal": SinusoidalPositionEncoding, "learned": LearnedPositionEncoding}


def check_offset(owner, offset, position):
    """Returns a `position_offset`, or raises if positions of this kind have no rows to skip."""
    offset = checks.non_negative_int(owner, "position_offset", offset)
    if offset and position != "learned":
        raise ValueError(
            f"{owner}: `position_offset` skips rows of the learned positions. "
            f"Received: position_offset={offset}, position={position!r}. "
            "Pass position='learned' or position_offset=0."
        )
    return offset


def make_position_encoding(owner):
    """The encoding that the arguments of the embedding layer `owner` ask for."""
    learned = {
        "embeddings_initializer": copy_initializer(owner.embeddings_initializer),
        "position_offset": owner.position_offset,
    }
    return POSITIONS[owner.position](
        max_sequence_length=owner.max_sequence_length,
        **(learned if owner.position == "learned" else {}),
        dtype=owner.dtype_policy,
        name="position_encoding",
    )
