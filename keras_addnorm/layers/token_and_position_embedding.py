"""Token, position and segment embeddings, summed."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.norms import apply_norm, make_norm, norm_config
from keras_addnorm.layers.position_encoding import POSITIONS


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TokenAndPositionEmbedding(keras.layers.Layer):
    """Sums the embeddings of tokens, positions and segments, and may normalize the sum.

        output = norm(tokens[token_ids] + positions[0..length] + segments[segment_ids])

    Args:
        vocabulary_size: int, number of tokens.
        max_sequence_length: int, the longest sequence.
        embedding_dim: int, features of the output.
        position: `"learned"` or `"sinusoidal"`.
        num_segments: int, number of segments; 0 for none.
        embedding_norm: `False`, `True` (layer norm), or a norm as in `AddNorm`.
        epsilon: float above 0, the norm's epsilon.
        mask_zero: bool, whether token 0 is padding, to be masked by a Keras mask.
        embeddings_initializer: initializer of the trained tables.

    Call arguments:
        token_ids: int tensor `(batch, length)`, from 0 to `vocabulary_size - 1`.
        segment_ids: int tensor `(batch, length)`, required where there are segments.
        mask: `(batch, length)`; True or 1 for unpadded positions, for an `embedding_norm` that
            averages over positions. Default: tokens other than 0 with `mask_zero`, else all.

    Output shape:
        `(batch, length, embedding_dim)`.

    Raises:
        ValueError: on an invalid argument, a longer sequence, or segments that are missing or
            not wanted.

    Example:

    ```python
    x = TokenAndPositionEmbedding(30522, 512, 384, num_segments=2)(token_ids, segment_ids)
    ```

    Source: Devlin et al., arXiv:1810.04805, section 3 (figure 2).
    """

    def __init__(
        self,
        vocabulary_size,
        max_sequence_length,
        embedding_dim,
        position="learned",
        num_segments=0,
        embedding_norm=False,
        epsilon=1e-5,
        mask_zero=False,
        embeddings_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(TokenAndPositionEmbedding, kwargs))
        self.supports_masking = True
        owner = "TokenAndPositionEmbedding"
        self.vocabulary_size = checks.positive_int(owner, "vocabulary_size", vocabulary_size)
        self.max_sequence_length = checks.positive_int(
            owner, "max_sequence_length", max_sequence_length
        )
        self.embedding_dim = checks.positive_int(owner, "embedding_dim", embedding_dim)
        self.position = checks.choice(owner, "position", position, POSITIONS)
        self.num_segments = checks.non_negative_int(owner, "num_segments", num_segments)
        self.embedding_norm = embedding_norm
        self.epsilon = checks.epsilon(owner, epsilon)
        self.mask_zero = bool(mask_zero)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

        self.token_embedding = self._embedding(
            self.vocabulary_size, "token_embedding", mask_zero=self.mask_zero
        )
        learned = {"embeddings_initializer": copy_initializer(self.embeddings_initializer)}
        self.position_encoding = POSITIONS[position](
            max_sequence_length=self.max_sequence_length,
            **(learned if position == "learned" else {}),
            dtype=self.dtype_policy,
            name="position_encoding",
        )
        self.segment_embedding = None
        if self.num_segments:
            self.segment_embedding = self._embedding(self.num_segments, "segment_embedding")
        self.norm_layer = None
        if embedding_norm is not False:
            norm = "layer_norm" if embedding_norm is True else embedding_norm
            self.norm_layer = make_norm(
                owner, norm, self.epsilon, "embedding_norm", dtype=self.dtype_policy, name="norm"
            )

    def _embedding(self, size, name, **kwargs):
        return keras.layers.Embedding(
            size,
            self.embedding_dim,
            embeddings_initializer=copy_initializer(self.embeddings_initializer),
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )

    def build(self, token_ids_shape, segment_ids_shape=None):
        shape = (*token_ids_shape, self.embedding_dim)
        self.token_embedding.build(token_ids_shape)
        self.position_encoding.build(shape)
        if self.segment_embedding is not None:
            self.segment_embedding.build(token_ids_shape)
        if self.norm_layer is not None:
            self.norm_layer.build(shape)
        self.built = True

    def call(self, token_ids, segment_ids=None, mask=None):
        if (segment_ids is None) == bool(self.num_segments):
            raise ValueError(
                "TokenAndPositionEmbedding takes `segment_ids` if and only if it has segments. "
                f"Received: num_segments={self.num_segments}, "
                f"segment_ids={'none' if segment_ids is None else 'given'}."
            )
        # The length comes from the ids: read from `x`, it would split a converted graph in two.
        length = ops.shape(token_ids)[1]
        positions = self.position_encoding.encoding(length, self.compute_dtype)  # [1, length, ..]
        x = self.token_embedding(token_ids)
        x = ops.add(x, positions)
        if segment_ids is not None:
            x = ops.add(x, self.segment_embedding(segment_ids))
        if self.norm_layer is None:
            return x
        mask = self.token_embedding.compute_mask(token_ids) if mask is None else mask
        return apply_norm("TokenAndPositionEmbedding", self.norm_layer, x, mask)

    def compute_mask(self, token_ids, mask=None):
        return self.token_embedding.compute_mask(token_ids)

    def compute_output_shape(self, token_ids_shape, segment_ids_shape=None):
        return (*token_ids_shape, self.embedding_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "max_sequence_length": self.max_sequence_length,
            "embedding_dim": self.embedding_dim,
            "position": self.position,
            "num_segments": self.num_segments,
            "embedding_norm": norm_config(self.embedding_norm),
            "epsilon": self.epsilon,
            "mask_zero": self.mask_zero,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
