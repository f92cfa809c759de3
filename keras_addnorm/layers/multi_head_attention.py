"""Multi-head attention with 2-D kernels and one masking rule."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import make_dense
from keras_addnorm.layers.masking import any_kept, attached_mask, combine_masks, masked_softmax
from keras_addnorm.layers.shapes import flatten, reshape

PROJECTIONS = ("query", "key", "value", "output")


@keras.saving.register_keras_serializable(package="keras_addnorm")
class MultiHeadAttention(keras.layers.Layer):
    """Scaled dot-product attention of several heads, with the call of Keras's own layer.

        q, k, v = query Wq + bq, key Wk + bk, value Wv + bv      (split into heads)
        scores  = softmax(q k^T / sqrt(key_dim) + mask)          (float32)
        output  = concat_heads(scores v) Wo + bo

    Kernels are 2-D `keras.layers.Dense` kernels: checkpoints of other libraries map one to one,
    and converters see fully connected ops. A query that may attend to nothing, for whatever
    mask, gets scores and context of exactly zero, so its output is `bo`.

    Args:
        num_heads: int, number of heads.
        key_dim: int, size of a head's query and key. Default: query features / `num_heads`.
        value_dim: int, size of a head's value. Default: `key_dim`.
        output_dim: int, features of the output. Default: the query's.
        use_bias: bool, whether the four projections have a bias.
        dropout: float in [0, 1), dropout rate on the scores while training.
        kernel_initializer: initializer of the four kernels.
        bias_initializer: initializer of the four biases.

    Call arguments:
        query: float tensor `(batch, queries, features)`.
        value: float tensor `(batch, keys, features)`. Default: `query` (self-attention).
        key: float tensor `(batch, keys, features)`. Default: `value`.
        query_mask: `(batch, queries)`; True or 1 keeps a query. Default: the query's Keras mask.
        value_mask: `(batch, keys)`; True or 1 keeps a key. Default: the value's Keras mask.
        key_mask: `(batch, keys)`; True or 1 keeps a key. Default: the key's Keras mask.
        attention_mask: `(batch, queries, keys)` or `(batch, heads, queries, keys)`; True or 1
            lets the query attend to the key.
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

    Source: Vaswani et al., arXiv:1706.03762, section 3.2.
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
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(MultiHeadAttention, kwargs))
        self.supports_masking = True
        owner = "MultiHeadAttention"
        self.num_heads = checks.positive_int(owner, "num_heads", num_heads)
        self.key_dim = checks.optional_positive_int(owner, "key_dim", key_dim)
        self.value_dim = checks.optional_positive_int(owner, "value_dim", value_dim)
        self.output_dim = checks.optional_positive_int(owner, "output_dim", output_dim)
        self.use_bias = bool(use_bias)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )

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
        sizes = {
            "query": (query_shape[-1], self.num_heads * self._key_dim),
            "key": (key_shape[-1], self.num_heads * self._key_dim),
            "value": (value_shape[-1], context),
            "output": (context, self.output_dim or features),
        }
        for name, (inputs, outputs) in sizes.items():
            dense = make_dense(self, name, outputs)
            dense.build((None, None, inputs))
            setattr(self, f"{name}_dense", dense)
        self.built = True

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
            query_mask,
            {"key_mask": key_mask, "value_mask": value_mask},
            attention_mask,
            use_causal_mask,
        )
        q = ops.multiply(self.query_dense(flatten(query)), self._key_dim**-0.5)
        q = self._split_heads(q, query, (0, 2, 1, 3))  # [B, heads, T, key_dim]
        k = self._split_heads(self.key_dense(flatten(key)), key, (0, 2, 3, 1))  # [.., key_dim, S]
        v = self._split_heads(self.value_dense(flatten(value)), value, (0, 2, 1, 3))
        scores = masked_softmax(ops.cast(ops.matmul(q, k), "float32"), keep)  # [B, heads, T, S]
        if keep is not None and return_attention_scores:
            scores = ops.multiply(scores, any_kept(keep))
        weights = self.dropout_layer(ops.cast(scores, self.compute_dtype), training=training)
        context = ops.matmul(weights, v)  # [B, heads, T, value_dim]
        if keep is not None and not return_attention_scores:
            context = ops.multiply(context, ops.cast(any_kept(keep), context.dtype))
        context = ops.transpose(context, (0, 2, 1, 3))
        context = ops.reshape(context, (-1, self.num_heads * self._value_dim))  # [B * T, ..]
        output = self.output_dense(context)
        output = reshape(output, (*query.shape[:2], output.shape[-1]), like=query)
        return (output, scores) if return_attention_scores else output

    def _split_heads(self, rows, like, order):
        batch, length = like.shape[:2]
        size = rows.shape[-1] // self.num_heads
        return ops.transpose(reshape(rows, (batch, length, self.num_heads, size), like), order)

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
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "output_dim": self.output_dim,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    @classmethod
    def from_keras(cls, layer):
        """Copies a built `keras.layers.MultiHeadAttention`, weights included.

        Raises:
            ValueError: if `layer` was not built, or attends over more than one axis.
        """
        config = layer.get_config()
        if not layer.built:
            raise ValueError(
                "MultiHeadAttention.from_keras copies weights, so the layer must be built. "
                f"Received: the unbuilt layer {layer.name!r}. Call it on data once."
            )
        more_axes = layer.query_dense.equation.split(",")[0] != "abc"
        if len(layer.output_dense.kernel.shape) != 3 or more_axes:
            raise ValueError(
                "MultiHeadAttention attends over the one axis of (batch, length, features). "
                f"Received: a layer with attention_axes={config['attention_axes']} and "
                f"output_shape={config['output_shape']}."
            )
        if config.get("use_gate") or config.get("sliding_window"):
            raise ValueError(
                "MultiHeadAttention has no gate and no sliding window. Received: a layer with "
                f"use_gate={config['use_gate']} and sliding_window={config['sliding_window']}."
            )
        output_dim = config["output_shape"][0] if config["output_shape"] else None
        names = ("num_heads", "key_dim", "value_dim", "use_bias", "dropout", "name", "dtype")
        same = {name: config[name] for name in names}
        new = cls(output_dim=output_dim, **same)
        _build_and_copy(layer, new)
        return new

    def to_keras(self):
        """Returns a built `keras.layers.MultiHeadAttention` with the same weights.

        Raises:
            ValueError: if this layer was not built.
        """
        if not self.built:
            raise ValueError(
                "MultiHeadAttention.to_keras copies weights, so the layer must be built. "
                f"Received: the unbuilt layer {self.name!r}. Call it on data once."
            )
        new = keras.layers.MultiHeadAttention(
            self.num_heads,
            self._key_dim,
            value_dim=self._value_dim,
            output_shape=self.output_dim,
            use_bias=self.use_bias,
            dropout=self.dropout,
            dtype=self.dtype_policy,
            name=self.name,
        )
        _build_and_copy(self, new)
        return new


def _build_and_copy(source, target):
    """Builds `target` for the features of `source` and copies the eight weights, reshaped."""
    kernels = {name: getattr(source, f"{name}_dense").kernel for name in PROJECTIONS}
    target.build(*((None, None, kernels[name].shape[0]) for name in ("query", "value", "key")))
    for name in PROJECTIONS:
        old, new = getattr(source, f"{name}_dense"), getattr(target, f"{name}_dense")
        new.kernel.assign(ops.reshape(old.kernel, new.kernel.shape))
        if old.bias is not None:
            new.bias.assign(ops.reshape(old.bias, new.bias.shape))
