"""Trained vectors of distances, which disentangled attention compares with content."""

import keras
import numpy as np
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.norms import apply_norm, make_norm, norm_config, uses_mask
from keras_addnorm.layers.position_encoding import check_length


def distance_rows(distance, bucket_size, max_distance):
    """Rows of the table for distances query - key.

        row(d) = clip(bucket(d) + span, 0, 2 span - 1)

    Without buckets, bucket(d) = d and span = `max_distance`. With them span = `bucket_size`:
    distances up to half of it are exact, and the others grow logarithmically up to
    `max_distance`. All of it is float32, as where the checkpoints come from: rounding decides the
    bucket of a distance on the border of two.

    Source: He et al., arXiv:2006.03654, equation 3; buckets as in the authors' DeBERTa-v2.
    """
    bucket, span = distance, bucket_size or max_distance
    if bucket_size is not None:
        middle = bucket_size // 2
        size = np.maximum(np.abs(distance), middle).astype("float32")
        end = np.log(np.float32((max_distance - 1) / middle))
        growth = np.log(size / np.float32(middle)) / end * np.float32(middle - 1)
        far = (np.ceil(growth) + middle).astype("int64") * np.sign(distance)
        bucket = np.where(np.abs(distance) <= middle, distance, far)
    return np.clip(bucket + span, 0, 2 * span - 1).astype("int32")


@keras.saving.register_keras_serializable(package="keras_addnorm")
class RelativeEmbedding(keras.layers.Layer):
    """The trained vectors of the distances in a sequence, for disentangled attention.

        table        = norm(relative_embeddings)
        relative_keys[r]    = table[row(query - key)] of key - query = r - (length - 1)
        relative_queries[r] = table[row(query - key)] of query - key = r - (length - 1)

    with r from 0 to 2 length - 1; `row` clips distances, and may put far ones into buckets that
    grow logarithmically. All layers of an encoder share one table.

    Args:
        bucket_size: int above 1, number of buckets for each direction, half of which are exact
            distances; or None, for none: then each distance below `max_distance` has its row.
        max_distance: int; all farther keys share the last row.
        max_sequence_length: int, the longest sequence.
        norm: norm of the table's rows, as in `AddNorm`, but none that averages over rows.
        epsilon: float above 0, the norm's epsilon.
        embeddings_initializer: initializer of the table.

    Call arguments:
        x: float tensor `(batch, length, features)`, of which only the shape is used.

    Output shape:
        A dict of `relative_keys` and `relative_queries`, both `(1, 2 * length, features)`: call
        arguments of `MultiHeadAttention`.

    Raises:
        ValueError: on an invalid argument, or a longer sequence.

    Example:

    ```python
    relative = RelativeEmbedding()(x)  # once; all layers of DeBERTa share it
    y = MultiHeadAttention(8, disentangled={})(x, **relative)
    ```

    Source: He et al., arXiv:2006.03654, section 3.1; buckets and norm as in DeBERTaV3,
    arXiv:2111.09543.
    """

    def __init__(
        self,
        bucket_size=256,
        max_distance=512,
        max_sequence_length=512,
        norm="layer_norm",
        epsilon=1e-7,
        embeddings_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(RelativeEmbedding, kwargs))
        owner = "RelativeEmbedding"
        self.bucket_size = checks.optional_positive_int(owner, "bucket_size", bucket_size)
        self.max_distance = checks.positive_int(owner, "max_distance", max_distance)
        if self.bucket_size and not 1 < self.bucket_size < 2 * (self.max_distance - 1):
            raise ValueError(
                f"{owner}: `bucket_size` must be above 1, and its half below `max_distance` - 1. "
                f"Received: bucket_size={bucket_size}, max_distance={max_distance}. DeBERTaV3 "
                "uses 256 and 512; pass None for no buckets."
            )
        self.max_sequence_length = checks.positive_int(
            owner, "max_sequence_length", max_sequence_length
        )
        self.norm = norm_config(norm)
        self.epsilon = checks.epsilon(owner, epsilon)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.norm_layer = make_norm(
            owner, self.norm, self.epsilon, dtype=self.dtype_policy, name="norm"
        )
        if uses_mask(self.norm_layer):
            raise ValueError(
                f"{owner}: `norm` must normalize each row by itself. Received: norm={norm!r}, "
                "which averages over rows. Pass for instance 'layer_norm' or 'none'."
            )

    def build(self, x_shape):
        if len(x_shape) != 3 or x_shape[-1] is None:
            raise ValueError(
                "RelativeEmbedding: `x` must have shape (batch, length, features) with known "
                f"features. Received: x of shape {tuple(x_shape)}. Reshape it first."
            )
        rows, features = 2 * (self.bucket_size or self.max_distance), x_shape[-1]
        self.relative_embeddings = self.add_weight(
            name="relative_embeddings",
            shape=(rows, features),
            initializer=self.embeddings_initializer,
        )
        self.norm_layer.build((rows, features))
        self.built = True

    def call(self, x):
        length, longest = ops.shape(x)[1], self.max_sequence_length
        check_length("RelativeEmbedding", length, longest)
        table = ops.convert_to_tensor(self.relative_embeddings)
        table = apply_norm("RelativeEmbedding", self.norm_layer, table)
        if isinstance(length, int):
            vectors = self._vectors(table, length)
        else:  # A converter looks up the rows of the longest sequence; those wanted are its middle.
            middle = slice(longest - length, longest + length)
            vectors = [x[middle] for x in self._vectors(table, longest)]
        vectors = [ops.reshape(x, (1, -1, x.shape[-1])) for x in vectors]
        return dict(zip(("relative_keys", "relative_queries"), vectors, strict=True))

    def _vectors(self, table, length):
        """The rows of the distances query - key of a length, from the last and from the first."""
        distance = np.arange(1 - length, length + 1)
        rows = [
            distance_rows(d, self.bucket_size, self.max_distance) for d in (-distance, distance)
        ]
        return [ops.take(table, ops.convert_to_tensor(x), axis=0) for x in rows]

    def compute_output_spec(self, x):
        rows = None if x.shape[1] is None else 2 * x.shape[1]
        return {
            name: keras.KerasTensor((1, rows, x.shape[-1]), dtype=self.compute_dtype)
            for name in ("relative_keys", "relative_queries")
        }

    def get_config(self):
        return {
            **super().get_config(),
            "bucket_size": self.bucket_size,
            "max_distance": self.max_distance,
            "max_sequence_length": self.max_sequence_length,
            "norm": self.norm,
            "epsilon": self.epsilon,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
