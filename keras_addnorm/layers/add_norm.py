"""Residual connection and normalization, in one layer."""

import keras
from keras import ops

from keras_addnorm.layers import checks


def _layer_norm(epsilon, **kwargs):
    return keras.layers.LayerNormalization(epsilon=epsilon, **kwargs)


def _rms_norm(epsilon, **kwargs):
    return keras.layers.RMSNormalization(epsilon=epsilon, **kwargs)


def _no_norm(epsilon, **kwargs):
    return keras.layers.Identity(**kwargs)


NORMS = {"layer_norm": _layer_norm, "rms_norm": _rms_norm, "none": _no_norm}


def make_norm(owner, norm, epsilon, argument="norm", **kwargs):
    """Builds the norm named `norm` (a key of `NORMS`), or one like a Keras layer or its config."""
    if isinstance(norm, (keras.layers.Layer, dict)):
        serialized = norm_config(norm)
        dtype = keras.dtype_policies.serialize(keras.dtype_policies.get(kwargs.get("dtype")))
        config = {**serialized["config"], "dtype": dtype}
        return keras.saving.deserialize_keras_object({**serialized, "config": config})
    if not isinstance(norm, str) or norm not in NORMS:
        raise ValueError(
            f"{owner}: `{argument}` must be one of {', '.join(map(repr, NORMS))}, or a Keras layer "
            f"instance. Received: {argument}={norm!r}."
        )
    return NORMS[norm](epsilon, **kwargs)


def norm_config(norm):
    """The JSON form of a `norm` argument."""
    return keras.saving.serialize_keras_object(norm) if isinstance(norm, keras.Layer) else norm


@keras.saving.register_keras_serializable(package="keras_addnorm")
class AddNorm(keras.layers.Layer):
    """Adds a sublayer's output to the residual stream and normalizes the sum.

        total  = residual_scale * x + branch_scale * dropout(y)
        normed = norm(total)

    Post-norm encoders carry `normed` on to the next sublayer. Pre-norm encoders carry `total` and
    feed `normed` to the next sublayer: pass `return_sum=True` to get both.

    Args:
        norm: `"layer_norm"` (default), `"rms_norm"`, `"none"`, or a Keras layer instance, which
            is copied. Normalizes the last axis.
        epsilon: float above 0, added to the variance. Not used by a norm given as a layer.
        residual_scale: float, the constant that multiplies `x` (DeepNorm's alpha).
        branch_scale: `None` for no scale, or a float: where one trainable scalar that multiplies
            the branch starts (ReZero starts at 0).
        dropout: float in [0, 1), the dropout rate on `y` while training.
        return_sum: bool. If True, returns the pair `(normed, total)`.

    Call arguments:
        x: float tensor `(..., features)`, the residual stream. Its Keras mask is kept.
        y: float tensor of the same shape, the sublayer's output.
        training: bool, whether dropout is active.

    Output shape:
        The shape of `x`; twice, as a pair, with `return_sum=True`.

    Raises:
        ValueError: on an invalid argument, on a list instead of two tensors, and where the two
            shapes differ.

    Example:

    ```python
    x = AddNorm()(x, MultiHeadAttention(num_heads=8)(x))    # post-norm
    n, x = AddNorm(return_sum=True)(x, FeedForward(2048)(n))  # pre-norm
    ```

    Source: Vaswani et al., arXiv:1706.03762, section 5.4; pre-norm: Xiong et al.,
    arXiv:2002.04745; ReZero: Bachlechner et al., arXiv:2003.04887.
    """

    def __init__(
        self,
        norm="layer_norm",
        epsilon=1e-5,
        residual_scale=1.0,
        branch_scale=None,
        dropout=0.0,
        return_sum=False,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(AddNorm, kwargs))
        self.supports_masking = True
        self.norm = norm
        self.epsilon = checks.epsilon("AddNorm", epsilon)
        self.residual_scale = checks.finite("AddNorm", "residual_scale", residual_scale)
        self.branch_scale = branch_scale
        if branch_scale is not None:
            self.branch_scale = checks.finite("AddNorm", "branch_scale", branch_scale)
        self.dropout = checks.rate("AddNorm", "dropout", dropout)
        self.return_sum = bool(return_sum)
        self.norm_layer = make_norm(
            "AddNorm", norm, self.epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )

    def __call__(self, *args, **kwargs):
        tensors = [*args, *(kwargs[name] for name in ("x", "y") if name in kwargs)]
        if len(tensors) != 2 or any(isinstance(t, (list, tuple)) for t in tensors):
            kinds = ", ".join(type(t).__name__ for t in tensors)
            raise ValueError(
                "AddNorm takes two tensors whose roles differ: the residual stream and the "
                f"sublayer's output. Received: {len(tensors)} positional argument(s) ({kinds}). "
                "Call `AddNorm()(x, y)`, not `AddNorm()([x, y])`."
            )
        return super().__call__(*args, **kwargs)

    def build(self, x_shape, y_shape):
        self._check_shapes(x_shape, y_shape)
        if self.branch_scale is not None:
            self.scale = self.add_weight(
                name="branch_scale",
                shape=(),
                initializer=keras.initializers.Constant(self.branch_scale),
            )
        self.norm_layer.build(x_shape)
        self.built = True

    def _check_shapes(self, x_shape, y_shape):
        if not checks.same_shape(tuple(x_shape), tuple(y_shape)):
            raise ValueError(
                "AddNorm adds two tensors of the same shape. Received: "
                f"x of shape {tuple(x_shape)}, y of shape {tuple(y_shape)}. Give the sublayer "
                "an output as wide as the residual stream (for instance `output_dim`)."
            )

    def call(self, x, y, training=None):
        self._check_shapes(x.shape, y.shape)
        y = self.dropout_layer(y, training=training)
        if self.branch_scale is not None:
            y = ops.multiply(y, ops.cast(self.scale, y.dtype))
        if self.residual_scale != 1.0:
            x = ops.multiply(x, self.residual_scale)
        total = ops.add(x, y)
        normed = self.norm_layer(total)
        return (normed, total) if self.return_sum else normed

    def compute_mask(self, x, mask=None):
        return (mask, mask) if self.return_sum else mask

    def compute_output_shape(self, x_shape, y_shape):
        self._check_shapes(x_shape, y_shape)
        return (x_shape, x_shape) if self.return_sum else x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "norm": norm_config(self.norm),
            "epsilon": self.epsilon,
            "residual_scale": self.residual_scale,
            "branch_scale": self.branch_scale,
            "dropout": self.dropout,
            "return_sum": self.return_sum,
        }
