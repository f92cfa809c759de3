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

    With a `projection_window`, W and b act on the tokens' embeddings instead, each between those
    of its neighbours: `concat(next, own, previous) W + b` with a window of 3. With
    `project_first`, the output is `dropout(norm(total W))`.

    The token table is tied: `layer.token_embedding(x, reverse=True)` is `x tokens^T`, the logits.

    Args:
        vocabulary_size: int, number of tokens.
        max_sequence_length: int, the longest sequence (with no positions, nothing limits it).
        embedding_dim: int, features of the output.
        position: `"learned"`, `"sinusoidal"` or `"none"`.
        num_segments: int, number of segments; 0 for none. With 1 all tokens are of it.
        embedding_norm: `False`, `True` (layer norm), or a norm as in `AddNorm`.
        epsilon: float above 0, the norm's epsilon.
        mask_zero: bool, whether token 0 is padding, to be masked by a Keras mask.
        embeddings_initializer: initializer of the trained tables and of the projection's kernel.
        position_offset: int, rows of the learned positions before that of the first token.
            RoBERTa numbers the tokens of a right-padded sequence from 2.
        token_embedding_dim: int, width of the tables where a dense layer `projection` widens them
            to `embedding_dim` (ALBERT). Default: no projection.
        projection_window: odd int; with `token_embedding_dim`, how many neighbouring tokens the
            projection sees at once, next first, zeros beyond both ends (3: MobileBERT). Positions,
            segments and norm then have `embedding_dim` features. The last token of a padded
            sequence sees the padding token. Default: the projection is of the output.
        embedding_scale: float that multiplies the token embeddings, or `"sqrt"` for the paper's
            sqrt(embedding_dim). Default: no scale.
        dropout: float in [0, 1), dropout rate after the norm while training.
        mask_token_id: int, the token whose embedding is zero, while those of the sequence's other
            tokens grow by (1 - mask_token_rate) / (1 - its share), as if dropout had dropped it
            (ESM-2). Default: a token as any other.
        mask_token_rate: float in [0, 1), the share of tokens that were this one in pretraining.
        project_first: bool, whether the projection, then without a bias, comes before the norm
            (DeBERTa-v2).
        zero_padding: bool, whether positions that `mask` hides are zero after the norm (ESM-2,
            DeBERTa).

    Call arguments:
        token_ids: int tensor `(batch, length)`, from 0 to `vocabulary_size - 1`.
        segment_ids: int tensor `(batch, length)`, required where there are two or more segments.
        mask: `(batch, length)`; True or 1 for unpadded positions, for an `embedding_norm` that
            averages over positions, `mask_token_id` and `zero_padding`; with `mask_zero`, tokens
            other than 0 only.
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
    et al., arXiv:1706.03762, section 3.4; projection: Lan et al., arXiv:1909.11942, section 3.1;
    trigrams: Sun et al., arXiv:2004.02984, section 3.2; mask token: `token_dropout` of
    github.com/facebookresearch/esm.
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
        projection_window=None,
        mask_token_id=None,
        mask_token_rate=0.12,
        zero_padding=False,
        project_first=False,
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
        self.projection_window = _window(owner, projection_window, token_embedding_dim)
        self.mask_token_id = mask_token_id
        if mask_token_id is not None:
            last = self.vocabulary_size - 1
            checks.positive_int(owner, "mask_token_id", mask_token_id, limit=last, least=0)
        self.mask_token_rate = checks.rate(owner, "mask_token_rate", mask_token_rate)
        self.zero_padding = bool(zero_padding)
        self.project_first = checks.boolean(owner, "project_first", project_first)
        if self.project_first and (token_embedding_dim is None or projection_window is not None):
            raise ValueError(
                f"{owner}: `project_first` moves the projection of `token_embedding_dim`, without "
                f"a window, before the norm. Received: token_embedding_dim={token_embedding_dim}, "
                f"projection_window={projection_window}. Pass a token_embedding_dim only."
            )
        self._make_sublayers(owner)

    def _make_sublayers(self, owner):
        # Features of the table of tokens, and of what is added to its rows.
        self._token_width = self.token_embedding_dim or self.embedding_dim
        self._width = self._token_width if self.projection_window is None else self.embedding_dim
        self.token_embedding = self._embedding(
            self.vocabulary_size,
            "token_embedding",
            keras.layers.ReversibleEmbedding,
            width=self._token_width,
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
                self.embedding_dim,
                use_bias=not self.project_first,
                kernel_initializer=initializer,
                name="projection",
                **dtype,
            )

    def _embedding(self, size, name, cls=keras.layers.Embedding, width=None, **kwargs):
        return cls(
            size,
            width or self._width,
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
        if self.position_encoding is not None:
            self.position_encoding.build(shape)
        if self.norm_layer is not None:
            width = self.embedding_dim if self.project_first else self._width
            self.norm_layer.build((*token_ids_shape, width))
        if self.projection is not None:
            self.projection.build((None, self._token_width * (self.projection_window or 1)))
        self.built = True

    def call(self, token_ids, segment_ids=None, mask=None, training=None):
        if (segment_ids is None) == (self.num_segments > 1):
            raise ValueError(
                "TokenAndPositionEmbedding takes `segment_ids` if and only if it has two or more "
                f"segments. Received: num_segments={self.num_segments}, "
                f"segment_ids={'none' if segment_ids is None else 'given'}."
            )
        if self.num_segments == 1:
            segment_ids = ops.zeros_like(token_ids)
        owner, size = "TokenAndPositionEmbedding", self.vocabulary_size
        checks.ids_below(owner, "token_ids", token_ids, size, "vocabulary_size")
        keep = None
        if self.zero_padding or self.mask_token_id is not None or self._norm_uses_mask:
            keep = self._padding_mask(token_ids, mask)
        x = self._tokens(token_ids, keep)
        if self.position_encoding is not None:
            # The length comes from the ids: read from `x`, it would split a converted graph.
            x = ops.add(x, self.position_encoding.encoding(token_ids, x.dtype))
        if segment_ids is not None:
            checks.ids_below(owner, "segment_ids", segment_ids, self.num_segments, "num_segments")
            x = ops.add(x, widen(self.segment_embedding(segment_ids)))
        if self.project_first:
            x = widen(self._project(narrow(x, self.compute_dtype), token_ids))
        if self.norm_layer is not None:
            x = apply_norm(owner, self.norm_layer, x, keep, training)
        if self.zero_padding and keep is not None:
            x = ops.multiply(x, ops.cast(ops.expand_dims(keep, -1), x.dtype))
        x = self.dropout_layer(narrow(x, self.compute_dtype), training=training)
        if self.projection is None or self.projection_window is not None or self.project_first:
            return x
        return self._project(x, token_ids)

    @property
    def _norm_uses_mask(self):
        return self.norm_layer is not None and uses_mask(self.norm_layer)

    def _tokens(self, token_ids, keep):
        """What the tokens add to the sum, in float32."""
        x = widen(self.token_embedding(token_ids))
        if self.embedding_scale is not None:
            sqrt = self.embedding_scale == "sqrt"
            x = ops.multiply(x, self.embedding_dim**0.5 if sqrt else self.embedding_scale)
        if self.mask_token_id is not None:
            x = ops.multiply(x, self._mask_token_factor(token_ids, keep))
        if self.projection_window is None:
            return x
        x = narrow(x, self.compute_dtype)
        return widen(self._project(_neighbours(x, self.projection_window), token_ids))

    def _mask_token_factor(self, token_ids, keep):
        """0 for mask tokens, else (1 - rate) / (1 - their share); `(batch, length, 1)`."""
        other = ops.cast(ops.not_equal(token_ids, self.mask_token_id), "float32")
        ones = ops.ones_like(other) if keep is None else ops.multiply(ops.ones_like(other), keep)
        length = ops.sum(ones, axis=1, keepdims=True)
        masked = ops.sum(ops.subtract(1.0, other), axis=1, keepdims=True)
        # Without any other token there is nothing to scale, only a division by 0 to avoid.
        others = ops.maximum(ops.subtract(length, masked), 1.0)
        factor = ops.divide(ops.multiply(length, 1.0 - self.mask_token_rate), others)
        return ops.expand_dims(ops.multiply(other, factor), -1)

    def _project(self, x, token_ids):
        rows = narrow(self.projection(flatten(x)), self.compute_dtype)  # [batch * length, ..]
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
            "projection_window": self.projection_window,
            "mask_token_id": self.mask_token_id,
            "mask_token_rate": self.mask_token_rate,
            "zero_padding": self.zero_padding,
            "project_first": self.project_first,
        }


def _neighbours(x, window):
    """The features of so many neighbouring positions side by side, the last position first."""
    reach = window // 2
    padded = ops.pad(x, [[0, 0], [reach, reach], [0, 0]])
    parts = [padded[:, 2 * reach - i : -i or None] for i in range(window)]
    return ops.concatenate(parts, axis=-1)


def _window(owner, window, token_embedding_dim):
    if window is None:
        return None
    window = checks.positive_int(owner, "projection_window", window, limit=99)
    if window % 2 == 0 or token_embedding_dim is None:
        raise ValueError(
            f"{owner}: `projection_window` must be odd, a token in the middle of its neighbours, "
            f"and there must be a projection. Received: projection_window={window}, "
            f"token_embedding_dim={token_embedding_dim}. Pass for instance projection_window=3 "
            "and a token_embedding_dim."
        )
    return window


def _embedding_scale(owner, scale):
    if scale is None or (isinstance(scale, str) and scale == "sqrt"):
        return scale
    if isinstance(scale, str):
        raise ValueError(
            f"{owner}: `embedding_scale` must be a finite number, 'sqrt' or None. "
            f"Received: embedding_scale={scale!r}. 'sqrt' stands for sqrt(embedding_dim)."
        )
    return checks.finite(owner, "embedding_scale", scale)
