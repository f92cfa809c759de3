"""Biases that are added to attention scores and depend on the distance of query and key."""

import keras
import numpy as np
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.position_encoding import check_length


def alibi_slopes(num_heads):
    """The slopes of ALiBi: 2^(-8/n), 2^(-16/n), ...; for n that is no power of 2, as the authors.

    Source: Press et al., arXiv:2108.12409, section 3, and the authors' code for other n.
    """
    power = 2 ** int(np.floor(np.log2(num_heads)))
    slopes = 2.0 ** (-8.0 / power * np.arange(1, power + 1))
    extra = 2.0 ** (-4.0 / power * np.arange(1, 2 * (num_heads - power), 2))
    return np.concatenate([slopes, extra])


def relative_buckets(length, num_buckets, max_distance):
    """Bucket of each distance key - query from -(length - 1) to length - 1, bidirectional.

    Half of the buckets are for keys behind the query, half for keys ahead; of these the first
    half are exact distances, the others grow logarithmically up to `max_distance`.
    Source: Raffel et al., arXiv:1910.10683, section 2.1, as in T5's encoder and in MPNet.
    """
    distance = np.arange(-(length - 1), length)
    half, exact = num_buckets // 2, num_buckets // 4
    size = np.abs(distance).astype("float64")
    growth = np.log(np.maximum(size, 1.0) / exact) / np.log(max_distance / exact)
    far = np.minimum(exact + (growth * (half - exact)).astype("int64"), half - 1)
    return np.where(distance > 0, half, 0) + np.where(size < exact, size.astype("int64"), far)


@keras.saving.register_keras_serializable(package="keras_addnorm")
class ALiBi(keras.layers.Layer):
    """Attention with linear biases, symmetric: far keys score less, in both directions.

        bias[h, i, j] = -slope_h |i - j|

    Args:
        num_heads: int, number of heads.

    Call arguments:
        x: float tensor `(batch, length, features)`, of which only the length is used.

    Output shape:
        `(1, num_heads, length, length)`, float32: the `position_bias` of `MultiHeadAttention`.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    y = MultiHeadAttention(8)(x, position_bias=ALiBi(8)(x))
    ```

    Source: Press et al., arXiv:2108.12409; symmetric for encoders as in MosaicBERT,
    arXiv:2312.17482.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**checks.known_arguments(ALiBi, kwargs))
        self.num_heads = checks.positive_int("ALiBi", "num_heads", num_heads)

    def build(self, x_shape):
        self._slopes = alibi_slopes(self.num_heads).reshape(1, -1, 1, 1)
        self.built = True

    def call(self, x):
        length = ops.shape(x)[1]
        if isinstance(length, int):
            distance = np.abs(np.arange(length)[:, None] - np.arange(length))
            return ops.convert_to_tensor(-self._slopes * distance, "float32")
        positions = ops.cast(ops.arange(length), "float32")
        distance = ops.abs(
            ops.subtract(
                ops.reshape(positions, (1, 1, -1, 1)), ops.reshape(positions, (1, 1, 1, -1))
            )
        )
        return ops.multiply(distance, ops.convert_to_tensor(-self._slopes, "float32"))

    def compute_output_spec(self, x):
        return _bias_spec(self.num_heads, x)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable(package="keras_addnorm")
class RelativePositionBias(keras.layers.Layer):
    """A trained bias for each head and bucket of distances.

        bias[h, i, j] = relative_attention_bias[bucket(j - i), h]

    Args:
        num_heads: int, number of heads.
        num_buckets: int, a multiple of 4.
        max_distance: int above `num_buckets / 4`; all farther keys share the last bucket.
        max_sequence_length: int, the longest sequence.
        embeddings_initializer: initializer of the table.

    Call arguments:
        x: float tensor `(batch, length, features)`, of which only the length is used.

    Output shape:
        `(1, num_heads, length, length)`, float32: the `position_bias` of `MultiHeadAttention`.

    Raises:
        ValueError: on an invalid argument, or a longer sequence.

    Example:

    ```python
    bias = RelativePositionBias(8)(x)  # once; all layers of T5 and MPNet share it
    y = MultiHeadAttention(8)(x, position_bias=bias)
    ```

    Source: Raffel et al., arXiv:1910.10683, section 2.1.
    """

    def __init__(
        self,
        num_heads,
        num_buckets=32,
        max_distance=128,
        max_sequence_length=512,
        embeddings_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(RelativePositionBias, kwargs))
        owner = "RelativePositionBias"
        self.num_heads = checks.positive_int(owner, "num_heads", num_heads)
        self.num_buckets = checks.positive_int(owner, "num_buckets", num_buckets)
        self.max_distance = checks.positive_int(owner, "max_distance", max_distance)
        if self.num_buckets % 4 or self.max_distance <= self.num_buckets // 4:
            raise ValueError(
                f"{owner}: `num_buckets` must be a multiple of 4, and `max_distance` above a "
                f"quarter of it. Received: num_buckets={num_buckets}, "
                f"max_distance={max_distance}. T5 and MPNet use 32 and 128."
            )
        self.max_sequence_length = checks.positive_int(
            owner, "max_sequence_length", max_sequence_length
        )
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, x_shape):
        arguments = (self.max_sequence_length, self.num_buckets, self.max_distance)
        self._buckets = relative_buckets(*arguments).astype("int32")
        self.relative_attention_bias = self.add_weight(
            name="relative_attention_bias",
            shape=(self.num_buckets, self.num_heads),
            initializer=self.embeddings_initializer,
            autocast=False,
        )
        self.built = True

    def call(self, x):
        length, middle = ops.shape(x)[1], self.max_sequence_length - 1
        check_length("RelativePositionBias", length, self.max_sequence_length)
        if isinstance(length, int):
            distance = np.arange(length) - np.arange(length)[:, None]
            buckets = ops.convert_to_tensor(self._buckets[distance + middle])
        else:
            keys = ops.reshape(ops.arange(length), (1, -1))
            queries = ops.reshape(ops.arange(length), (-1, 1))
            distance = ops.subtract(keys, queries)
            buckets = ops.take(ops.convert_to_tensor(self._buckets), ops.add(distance, middle))
        table = ops.cast(ops.convert_to_tensor(self.relative_attention_bias), "float32")
        bias = ops.take(table, buckets, axis=0)  # [length, length, heads]
        return ops.expand_dims(ops.transpose(bias, (2, 0, 1)), 0)

    def compute_output_spec(self, x):
        return _bias_spec(self.num_heads, x)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "max_sequence_length": self.max_sequence_length,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


def _bias_spec(num_heads, x):
    return keras.KerasTensor((1, num_heads, x.shape[1], x.shape[1]), dtype="float32")
