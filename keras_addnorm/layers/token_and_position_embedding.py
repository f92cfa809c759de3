"""Token, position and segment embeddings, summed."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.masking import multiply_masks, to_keep
from keras_addnorm.layers.norms import apply_norm, make_norm, norm_config, uses_mask
from keras_addnorm.layers.position_encoding import (
    POSITIONS,
    check_offset,
    make_position_encoding,
)
from keras_addnorm.layers.precision import narrow, widen
from keras_addnorm.layers.quantization import int4_config, layer_config
from keras_addnorm.layers.shapes import flatten, reshape


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TokenAndPositionEmbedding(keras.layers.Layer):
    """Sums the embeddings of tokens, positions and segments, and may normalize the sum.

        total  = scale * tokens[token_ids] + positions[offset..] + segments[segment_ids]
        output = dropout(norm(total)) W + b           (W and b with `token_embedding_dim` only)

    The token table is tied: `layer.token_embedding(x, reverse=True)` is `x tokens^T`, the logits.

    Args:
        vocabulary_size: int, number of tokens.
        max_sequence_length: int, the longest sequence (with no positions, nothing limits it).
        embedding_dim: int, features of the output.
        position: `"learned"`, `"sinusoidal"` or `"none"`.
        num_segments: int, number of segments; 0 for none.
        embedding_norm: `False`, `True` (layer norm), or a norm as in `AddNorm`.
        epsilon: float above 0, the norm's epsilon.
        mask_zero: bool, whether token 0 is padding, to be masked by a Keras mask.
        embeddings_initializer: initializer of the trained tables and of the projection's kernel.
        position_offset: int, rows of the learned positions before that of the first token.
            RoBERTa numbers the tokens of a right-padded sequence from 2.
        token_embedding_dim: int, width of the tables where a dense layer `projection` widens them
            to `embedding_dim` (ALBERT). Default: no projection.
        embedding_scale: float that multiplies the token embeddings, or `"sqrt"` for the paper's
            sqrt(embedding_dim). Default: no scale.
        dropout: float in [0, 1), dropout rate after the norm while training.

    Call arguments:
        token_ids: int tensor `(batch, length)`, from 0 to `vocabulary_size - 1`.
        segment_ids: int tensor `(batch, length)`, required where there are segments.
        mask: `(batch, length)`; True or 1 for unpadded positions, for an `embedding_norm` that
            averages over positions; with `mask_zero`, tokens other than 0 only.
        training: bool, whether dropout is active.

    Output shape:
        `(batch, length, embedding_dim)`.

    Raises:
        ValueError: on an invalid argument, a longer sequence, segments that are missing or not
            wanted, or, outside of a traced graph, ids out of range.

    Example:

    ```python
    x = TokenAndPositionEmbedding(30522, 512, 384, num_segments=2)(token_ids, segment_ids)
    ```

    Source: Devlin et al., arXiv:1810.04805, section 3 (figure 2); scale and tied table: Vaswani
    et al., arXiv:1706.03762, section 3.4; projection: Lan et al., arXiv:1909.11942, section 3.1.
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
        position_offset=0,
        token_embedding_dim=None,
        embedding_scale=None,
        dropout=0.0,
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
        self.position = checks.choice(owner, "position", position, (*POSITIONS, "none"))
        self.num_segments = checks.non_negative_int(owner, "num_segments", num_segments)
        self.embedding_norm = norm_config(embedding_norm)
        self.epsilon = checks.epsilon(owner, epsilon)
        self.mask_zero = bool(mask_zero)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.position_offset = check_offset(owner, position_offset, position)
        self.token_embedding_dim = checks.optional_positive_int(
            owner, "token_embedding_dim", token_embedding_dim
        )
        self.embedding_scale = _embedding_scale(owner, embedding_scale)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self._make_sublayers(owner)

    def _make_sublayers(self, owner):
        self._width = self.token_embedding_dim or self.embedding_dim
        self.token_embedding = self._embedding(
            self.vocabulary_size,
            "token_embedding",
            keras.layers.ReversibleEmbedding,
            mask_zero=self.mask_zero,
        )
        self.position_encoding = self.segment_embedding = self.norm_layer = self.projection = None
        if self.position != "none":
            self.position_encoding = make_position_encoding(self)
        if self.num_segments:
            self.segment_embedding = self._embedding(self.num_segments, "segment_embedding")
        dtype = {"dtype": self.dtype_policy}
        if self.embedding_norm is not False:
            norm = "layer_norm" if self.embedding_norm is True else self.embedding_norm
            self.norm_layer = make_norm(
                owner, norm, self.epsilon, "embedding_norm", name="norm", **dtype
            )
            if isinstance(norm, str):  # It takes the float32 sum as it is; a given layer may not.
                self.norm_layer.autocast = False
        self.dropout_layer = Dropout(self.dropout, name="dropout", **dtype)
        if self.token_embedding_dim is not None:
            initializer = copy_initializer(self.embeddings_initializer)
            self.projection = keras.layers.Dense(
                self.embedding_dim, kernel_initializer=initializer, name="projection", **dtype
            )

    def _embedding(self, size, name, cls=keras.layers.Embedding, **kwargs):
        return cls(
            size,
            self._width,
            embeddings_initializer=copy_initializer(self.embeddings_initializer),
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )

    def build(self, token_ids_shape, segment_ids_shape=None):
        shape = (*token_ids_shape, self._width)
        config = int4_config(self.dtype_policy, f"{self.path}/token_embedding")
        if config is not None:
            self.token_embedding.quantization_config = config
        self.token_embedding.build(token_ids_shape)
        if self.segment_embedding is not None:
            self.segment_embedding.build(token_ids_shape)
        for layer in (self.position_encoding, self.norm_layer, self.projection):
            if layer is not None:
                layer.build(shape)
        self.built = True

    def call(self, token_ids, segment_ids=None, mask=None, training=None):
        if (segment_ids is None) == bool(self.num_segments):
            raise ValueError(
                "TokenAndPositionEmbedding takes `segment_ids` if and only if it has segments. "
                f"Received: num_segments={self.num_segments}, "
                f"segment_ids={'none' if segment_ids is None else 'given'}."
            )
        owner, size = "TokenAndPositionEmbedding", self.vocabulary_size
        checks.ids_below(owner, "token_ids", token_ids, size, "vocabulary_size")
        x = widen(self.token_embedding(token_ids))
        if self.embedding_scale is not None:
            sqrt = self.embedding_scale == "sqrt"
            x = ops.multiply(x, self.embedding_dim**0.5 if sqrt else self.embedding_scale)
        if self.position_encoding is not None:
            # The length comes from the ids: read from `x`, it would split a converted graph.
            length = ops.shape(token_ids)[1]
            x = ops.add(x, self.position_encoding.encoding(length, x.dtype))
        if segment_ids is not None:
            checks.ids_below(owner, "segment_ids", segment_ids, self.num_segments, "num_segments")
            x = ops.add(x, widen(self.segment_embedding(segment_ids)))
        if self.norm_layer is not None:
            mask = self._padding_mask(token_ids, mask) if uses_mask(self.norm_layer) else None
            x = apply_norm("TokenAndPositionEmbedding", self.norm_layer, x, mask, training)
        x = self.dropout_layer(narrow(x, self.compute_dtype), training=training)
        if self.projection is None:
            return x
        rows = self.projection(flatten(x))  # [batch * length, embedding_dim]
        rows = narrow(rows, self.compute_dtype)
        return reshape(rows, (*token_ids.shape, self.embedding_dim), like=token_ids)

    def _padding_mask(self, token_ids, mask):
        """The product of a mask of the call and that of token 0; None if there is neither."""
        sizes = dict(zip(("batch", "length"), token_ids.shape, strict=True))
        masks = [m for m in (mask, self.compute_mask(token_ids)) if m is not None]
        keep = [to_keep("TokenAndPositionEmbedding", "mask", m, **sizes) for m in masks]
        return multiply_masks(keep)

    def compute_mask(self, token_ids, mask=None):
        return ops.not_equal(token_ids, 0) if self.mask_zero else None

    def compute_output_shape(self, token_ids_shape, segment_ids_shape=None):
        return (*token_ids_shape, self.embedding_dim)

    def get_config(self):
        return {
            **layer_config(self, super().get_config()),
            "vocabulary_size": self.vocabulary_size,
            "max_sequence_length": self.max_sequence_length,
            "embedding_dim": self.embedding_dim,
            "position": self.position,
            "num_segments": self.num_segments,
            "embedding_norm": self.embedding_norm,
            "epsilon": self.epsilon,
            "mask_zero": self.mask_zero,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "position_offset": self.position_offset,
            "token_embedding_dim": self.token_embedding_dim,
            "embedding_scale": self.embedding_scale,
            "dropout": self.dropout,
        }


def _embedding_scale(owner, scale):
    if scale is None or (isinstance(scale, str) and scale == "sqrt"):
        return scale
    if isinstance(scale, str):
        raise ValueError(
            f"{owner}: `embedding_scale` must be a finite number, 'sqrt' or None. "
            f"Received: embedding_scale={scale!r}. 'sqrt' stands for sqrt(embedding_dim)."
        )
    return checks.finite(owner, "embedding_scale", scale)
