"""Multi-head attention with 2-D kernels and one masking rule."""

import keras
from keras import ops

from keras_addnorm.layers import checks, keras_attention
from keras_addnorm.layers.dense import make_dense
from keras_addnorm.layers.disentangled import Disentangled, distance_scores
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.masking import (
    any_kept,
    attached_mask,
    band_mask,
    checked_bias,
    clear_hidden_keys,
    combine_masks,
    masked_softmax,
    multiply_masks,
)
from keras_addnorm.layers.norms import apply_norm, make_norm, norm_config, uses_mask
from keras_addnorm.layers.precision import narrow, saturate
from keras_addnorm.layers.quantization import layer_config
from keras_addnorm.layers.rotary_embedding import RotaryEmbedding
from keras_addnorm.layers.shapes import flatten, reshape, sizes

PROJECTIONS = ("query", "key", "value", "output", "gate", "relative_query", "relative_key")


@keras.saving.register_keras_serializable(package="keras_addnorm")
class MultiHeadAttention(keras.layers.Layer):
    """Scaled dot-product attention of several heads, with the call of Keras's own layer.

        q, k, v = query Wq + bq, key Wk + bk, value Wv + bv          (split into heads)
        q, k    = rotary(norm(q)), rotary(norm(k))                   (where asked for)
        scores  = softmax(scale q k^T + position_bias + mask)                    (float32)
        context = concat_heads(scores v) * sigmoid(query Wg + bg)    (the gate where asked for)
        output  = context Wo + bo

    Kernels are 2-D `keras.layers.Dense` kernels: checkpoints of other libraries map one to one,
    and converters see fully connected ops. A query that may attend to nothing, for whatever
    mask, gets scores and context of exactly zero, so its output is `bo`.

    Args:
        num_heads: int, number of heads.
        key_dim: int, size of a head's query and key. Default: query features / `num_heads`.
        value_dim: int, size of a head's value. Default: `key_dim`.
        output_dim: int, features of the output. Default: the query's.
        use_bias: bool, whether the projections have a bias; or a list of the names of those that
            have one: query, key, value, output, gate, relative_query, relative_key.
        dropout: float in [0, 1), dropout rate on the scores while training.
        kernel_initializer: initializer of the kernels.
        bias_initializer: initializer of the biases.
        num_key_value_heads: int, heads of keys and values, each shared by `num_heads /
            num_key_value_heads` consecutive heads of queries. Default: `num_heads`.
        sliding_window: int; a query attends to keys less than this many positions away, on
            either side. Default: to all.
        rotary: dict of arguments of `RotaryEmbedding` that rotates queries and keys, or None.
        qk_norm: norm of each head's queries and keys, as in `AddNorm`, but none that averages
            over positions; or None.
        use_gate: bool, whether a sigmoid gate made from the query multiplies the context.
        guard_padding: bool. True keeps NaN and infinity at hidden positions away from the
            others, at the cost of one `where`; without it the hidden content must be finite.
        value_output_initializer: initializer of the value and output kernels, which DeepNorm
            starts smaller than the others. Default: `kernel_initializer`.
        disentangled: dict that adds scores of content with distances (DeBERTa), or None. Keys:
            `terms`, a list of `"c2p"` (query and distance) and `"p2c"` (key and distance),
            default both; `share_projections`, whether the kernels of query and key project the
            vectors of distances too, default True; `dropout`, the rate on those vectors.
        scale: float above 0 that multiplies q k^T and the scores of distances; 1.0, for kernels
            that have it in them, adds no operation. Default: 1 / sqrt(key_dim), and with
            `disentangled` 1 / sqrt(key_dim * (1 + number of terms)).

    Call arguments:
        query: float tensor `(batch, queries, features)`.
        value: float tensor `(batch, keys, features)`. Default: `query` (self-attention).
        key: float tensor `(batch, keys, features)`. Default: `value`.
        query_mask: `(batch, queries)`; True or 1 keeps a query. Default: the query's Keras mask.
        value_mask: `(batch, keys)`; True or 1 keeps a key. Default: the value's Keras mask.
        key_mask: `(batch, keys)`; True or 1 keeps a key. Default: the key's Keras mask.
        attention_mask: `(batch, queries, keys)` or `(batch, heads, queries, keys)`; True or 1
            lets the query attend to the key.
        position_bias: float tensor `(batch or 1, heads or 1, queries, keys)`, added to the
            scores before softmax.
        relative_keys: float tensor `(batch or 1, queries + keys, features)`, the vectors of the
            distances key - query from -(queries - 1) to keys, needed for the term `"c2p"`.
        relative_queries: likewise of query - key from -(keys - 1) to queries, for `"p2c"`.
        return_attention_scores: bool, whether to return the scores too.
        training: bool, whether dropout is active.
        use_causal_mask: bool, lets query i attend to keys 0 to i only.

    Output shape:
        `(batch, queries, output_dim)`; with `return_attention_scores=True` a pair, the second
        being the scores before dropout, float32, `(batch, num_heads, queries, keys)`.

    Raises:
        ValueError: on an invalid argument, an input that is not of rank 3, a mask of the wrong
            rank, or heads that do not divide the features.

    Example:

    ```python
    x = keras.random.normal((2, 7, 64))
    y = MultiHeadAttention(num_heads=8)(x)                     # self-attention
    y, scores = MultiHeadAttention(8, key_dim=16)(x, x, return_attention_scores=True)
    ```

    Source: Vaswani et al., arXiv:1706.03762, section 3.2; grouped queries: Ainslie et al.,
    arXiv:2305.13245; QK norm: Dehghani et al., arXiv:2302.05442; gate: Qiu et al.,
    arXiv:2505.06708; disentangled: He et al., arXiv:2006.03654.
    """

    def __init__(
        self,
        num_heads,
        key_dim=None,
        value_dim=None,
        output_dim=None,
        use_bias=True,
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        num_key_value_heads=None,
        sliding_window=None,
        rotary=None,
        qk_norm=None,
        use_gate=False,
        guard_padding=True,
        value_output_initializer=None,
        disentangled=None,
        scale=None,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(MultiHeadAttention, kwargs))
        self.supports_masking = True
        owner = "MultiHeadAttention"
        self.num_heads = checks.positive_int(owner, "num_heads", num_heads)
        self.key_dim = checks.optional_positive_int(owner, "key_dim", key_dim)
        self.value_dim = checks.optional_positive_int(owner, "value_dim", value_dim)
        self.output_dim = checks.optional_positive_int(owner, "output_dim", output_dim)
        self.use_bias = checks.flag_or_names(owner, "use_bias", use_bias, PROJECTIONS)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.num_key_value_heads = checks.positive_int(
            owner,
            "num_key_value_heads",
            self.num_heads if num_key_value_heads is None else num_key_value_heads,
        )
        checks.divides(
            owner, "num_heads", self.num_heads, "num_key_value_heads", self.num_key_value_heads
        )
        self.sliding_window = checks.optional_positive_int(owner, "sliding_window", sliding_window)
        self.rotary = rotary
        self.qk_norm = norm_config(qk_norm)
        self.use_gate = bool(use_gate)
        self.guard_padding = bool(guard_padding)
        self.value_output_initializer = keras.initializers.get(value_output_initializer)
        self.disentangled = disentangled
        self.scale = None if scale is None else checks.positive(owner, "scale", scale)
        self.autocast = False  # A position bias stays float32; the projections cast their inputs.
        self._make_heads(owner)
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, query_shape, value_shape=None, key_shape=None):
        value_shape = value_shape or query_shape
        key_shape = key_shape or value_shape
        for name, shape in (("query", query_shape), ("value", value_shape), ("key", key_shape)):
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    f"MultiHeadAttention: `{name}` must have shape (batch, length, features) with "
                    f"known features. Received: {name} of shape {tuple(shape)}. "
                    "Reshape it first."
                )
        features = query_shape[-1]
        self._key_dim = self.key_dim or checks.divides(
            "MultiHeadAttention", "query features", features, "num_heads", self.num_heads
        )
        self._value_dim = self.value_dim or self._key_dim
        context = self.num_heads * self._value_dim
        queries = self.num_heads * self._key_dim
        sizes = {
            "query": (features, queries),
            "key": (key_shape[-1], self.num_key_value_heads * self._key_dim),
            "value": (value_shape[-1], self.num_key_value_heads * self._value_dim),
            "gate": (features, context),
            "output": (context, self.output_dim or features),
            **{name: (features, queries) for name in self._distances.own_projections},
        }
        for name, (inputs, outputs) in sizes.items():
            if name != "gate" or self.use_gate:
                smaller = name in ("value", "output")
                initializer = self.value_output_initializer if smaller else None
                dense = make_dense(self, name, outputs, initializer)
                dense.build((None, inputs))
                setattr(self, f"{name}_dense", dense)
        self._scale = self.scale
        if self.scale is None:
            self._scale = (self._key_dim * (1 + len(self._distances.terms))) ** -0.5
        self._build_heads((None, None, None, self._key_dim))
        self.built = True

    def _make_heads(self, owner):
        """What acts on the heads' queries and keys."""
        if self.rotary is not None:
            options = checks.options(owner, "rotary", self.rotary, RotaryEmbedding, ())
            self.rotary_embedding = RotaryEmbedding(
                **options, dtype=self.dtype_policy, name="rotary"
            )
        for name in ("query", "key") if self.qk_norm is not None else ():
            norm = make_norm(
                owner, self.qk_norm, 1e-6, "qk_norm", dtype=self.dtype_policy, name=f"{name}_norm"
            )
            if uses_mask(norm):
                raise ValueError(
                    f"{owner}: `qk_norm` must normalize each position by itself. Received: "
                    f"qk_norm={self.qk_norm!r}, which averages over positions. "
                    "Pass for instance 'rms_norm'."
                )
            setattr(self, f"{name}_norm", norm)
        self._distances = Disentangled.of(self, self.disentangled)
        if self.disentangled is not None:
            self.relative_dropout_layer = Dropout(
                self._distances.dropout, dtype=self.dtype_policy, name="relative_dropout"
            )

    def _build_heads(self, shape):
        if self.rotary is not None:
            self.rotary_embedding.build(shape)
        if self.qk_norm is not None:
            self.query_norm.build(shape)
            self.key_norm.build(shape)

    def call(
        self,
        query,
        value=None,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
        position_bias=None,
        relative_keys=None,
        relative_queries=None,
    ):
        query_mask = attached_mask(query) if query_mask is None else query_mask
        value = query if value is None else value
        value_mask = attached_mask(value) if value_mask is None else value_mask
        if key is None:
            key = value
        elif key_mask is None:
            key_mask = attached_mask(key)
        keep = combine_masks(
            query,
            key,
            self.num_heads,
            query_mask=query_mask,
            key_mask=key_mask,
            value_mask=value_mask,
            attention_mask=attention_mask,
        )
        if keep is not None and self.guard_padding:
            cleared = clear_hidden_keys(value, keep)
            value, key = cleared, cleared if key is value else clear_hidden_keys(key, keep)
        keep = multiply_masks([keep, band_mask(query, key, use_causal_mask, self.sliding_window)])
        relative = {"relative_keys": relative_keys, "relative_queries": relative_queries}
        relative = self._distances.checked(query, key, relative)
        # [B, heads, T, S]
        scores = self._scores(query, key, keep, position_bias, relative, training)
        if keep is not None and return_attention_scores:
            scores = ops.multiply(scores, any_kept(keep))
        weights = self.dropout_layer(ops.cast(scores, self.compute_dtype), training=training)
        context = self._context(weights, value, query)  # [B, heads, T, value_dim]
        if keep is not None and not return_attention_scores:
            context = ops.multiply(context, ops.cast(any_kept(keep), context.dtype))
        context = ops.transpose(context, (0, 2, 1, 3))
        context = flatten(context, self.num_heads * self._value_dim)  # [B * T, ..]
        if self.use_gate:
            gate = ops.sigmoid(self.gate_dense(flatten(query)))
            context = ops.multiply(context, gate)
        output = narrow(self.output_dense(context), self.compute_dtype)
        output = reshape(output, (*query.shape[:2], output.shape[-1]), like=query)
        return (output, scores) if return_attention_scores else output

    def _scores(self, query, key, keep, position_bias, relative, training):
        q, k = self.query_dense(flatten(query)), self.key_dense(flatten(key))
        q = self._prepare(q, query, self.num_heads, "query", training)
        k = self._prepare(k, key, self.num_key_value_heads, "key", training)
        q, k = ops.cast(q, "float32"), ops.cast(k, "float32")
        q = ops.transpose(self._scaled(q), (0, 2, 1, 3))
        k = ops.transpose(k, (0, 2, 3, 1))  # [B, kv heads, key_dim, S]
        q = self._regroup(q, query, self.num_key_value_heads)
        scores = self._regroup(ops.matmul(q, k), query, self.num_heads)
        if relative:
            rows = {name: self._project(name, x, training) for name, x in relative.items()}
            scores = ops.add(scores, distance_scores(q, k, rows, query, key))
        if position_bias is not None:
            scores = ops.add(scores, checked_bias(position_bias, query, key, self.num_heads))
        return masked_softmax(scores, keep)

    def _project(self, name, x, training):
        """The vectors of distances as heads, `(batch or 1, heads, key_dim, queries + keys)`."""
        x = self.relative_dropout_layer(x, training=training)
        rows = getattr(self, f"{self._distances.projections[name]}_dense")(flatten(x))
        rows = ops.cast(self._split_heads(rows, x, self.num_heads), "float32")
        if name == "relative_queries":  # The queries themselves are scaled already.
            rows = self._scaled(rows)
        return ops.transpose(rows, (0, 2, 3, 1))

    def _scaled(self, x):
        return x if self._scale == 1.0 else ops.multiply(x, self._scale)

    def _context(self, weights, value, query):
        v = self._split_heads(self.value_dense(flatten(value)), value, self.num_key_value_heads)
        v = ops.transpose(v, (0, 2, 1, 3))  # [B, kv heads, S, value_dim]
        weights = self._regroup(weights, query, self.num_key_value_heads)
        return self._regroup(ops.matmul(weights, v), query, self.num_heads)

    def _prepare(self, rows, like, heads, name, training):
        x = self._split_heads(rows, like, heads)
        if self.qk_norm is not None:
            norm = getattr(self, f"{name}_norm")
            x = apply_norm("MultiHeadAttention", norm, x, training=training)
        return x if self.rotary is None else self.rotary_embedding(x)

    def _split_heads(self, rows, like, heads):
        shape = (*like.shape[:2], heads, rows.shape[-1] // heads)
        return reshape(saturate(rows), shape, like)  # [B, length, heads, size]

    def _regroup(self, x, query, heads):
        """Rank 4 with so many heads: queries that share a key head are more rows of that head,
        so that no key is copied and no tensor has rank 5."""
        if self.num_key_value_heads == self.num_heads:
            return x
        batch, length = sizes(query)[:2]
        if x.shape[-1] is not None:
            return ops.reshape(x, (batch, heads, -1, x.shape[-1]))
        return ops.reshape(x, (batch, heads, length * (self.num_heads // heads), -1))

    def compute_output_shape(self, query_shape, value_shape=None, key_shape=None):
        return (*query_shape[:-1], self.output_dim or query_shape[-1])

    def compute_output_spec(
        self, query, value=None, key=None, *args, return_attention_scores=False, **kwargs
    ):
        shape = self.compute_output_shape(query.shape)
        output = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        keys = next(x for x in (key, value, query) if x is not None).shape[1]
        scores = (query.shape[0], self.num_heads, query.shape[1], keys)
        return output, keras.KerasTensor(scores, dtype="float32")

    def get_config(self):
        return {
            **layer_config(self, super().get_config()),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "output_dim": self.output_dim,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "num_key_value_heads": self.num_key_value_heads,
            "sliding_window": self.sliding_window,
            "rotary": self.rotary,
            "qk_norm": self.qk_norm,
            "use_gate": self.use_gate,
            "guard_padding": self.guard_padding,
            "value_output_initializer": keras.initializers.serialize(self.value_output_initializer),
            "disentangled": self.disentangled,
            "scale": self.scale,
        }

    @classmethod
    def from_keras(cls, layer):
        """Copies a built Keras attention layer, weights included.

        Args:
            layer: a `keras.layers.MultiHeadAttention` or `GroupQueryAttention`.

        Raises:
            ValueError: if `layer` was not built, or attends over more than one axis.
        """
        return keras_attention.from_keras(cls, layer)

    def to_keras(self):
        """Returns a built `keras.layers.MultiHeadAttention`, or `GroupQueryAttention` where key
        heads are shared, with the same weights. A `scale` goes into the query's.

        Raises:
            ValueError: if this layer was not built, or has options that Keras's do not have.
        """
        return keras_attention.to_keras(self)
