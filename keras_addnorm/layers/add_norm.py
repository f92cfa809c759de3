"""Residual connection and normalization, in one layer."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.masking import with_attached
from keras_addnorm.layers.norms import apply_norm, make_norm, norm_config, uses_mask
from keras_addnorm.layers.precision import narrow, widen


@keras.saving.register_keras_serializable(package="keras_addnorm")
class AddNorm(keras.layers.Layer):
    """Adds a sublayer's output to the residual stream and normalizes the sum.

        total  = residual_scale * x + branch_scale * drop_path(dropout(branch_norm(y)))
        normed = norm(total)

    Post-norm encoders carry `normed` on to the next sublayer. Pre-norm encoders carry `total` and
    feed `normed` to the next sublayer: pass `return_sum=True` to get both. In half precision the
    sum is taken and normalized in float32.

    Args:
        norm: `"layer_norm"` (default), `"layer_norm_no_bias"`, `"rms_norm"`, `"batch_norm"`,
            `"power_norm"`, `"dynamic_tanh"`, `"affine"`, `"none"`, or a Keras layer instance,
            which is copied, with the dtype policy of this layer.
        epsilon: float above 0, added to the variance. Not used by a norm given as a layer.
        residual_scale: float, the constant that multiplies `x` (DeepNorm's alpha).
        branch_scale: `None` for no scale, or a float: where the trainable scale that multiplies
            the branch starts (ReZero starts at 0, LayerScale at 1e-5).
        dropout: float in [0, 1), the dropout rate on `y` while training.
        return_sum: bool. If True, returns the pair `(normed, total)`.
        branch_scale_axis: `None` for a scale that is one scalar (ReZero), or -1 for one scale a
            feature (LayerScale).
        branch_norm: a norm, as `norm`, applied to the branch before it is added (sandwich norm).
        drop_path: float in [0, 1), the share of samples that lose their whole branch while
            training (stochastic depth); the others' branches are divided by 1 - drop_path.

    Call arguments:
        x: float tensor `(..., features)`, the residual stream. Its Keras mask is kept.
        y: float tensor of the same shape, the sublayer's output.
        mask: `(batch, length)`; True or 1 for unpadded positions, combined with the Keras mask of
            `x`. Norms that average over positions (`"batch_norm"`, `"power_norm"`) leave the
            others out; no other norm looks at it. As in all of Keras, outputs carry it on.
        training: bool, whether dropout and drop_path are active, and whether batch statistics
            come from the batch.

    Output shape:
        The shape of `x`; twice, as a pair, with `return_sum=True`.

    Raises:
        ValueError: on an invalid argument, on a list instead of two tensors, where the two
            shapes differ, and on a mask of the wrong rank that a norm needs.

    Example:

    ```python
    x = AddNorm()(x, MultiHeadAttention(num_heads=8)(x))    # post-norm
    n, x = AddNorm(return_sum=True)(x, FeedForward(2048)(n))  # pre-norm
    ```

    Source: Vaswani et al., arXiv:1706.03762, section 5.4; pre-norm: Xiong et al.,
    arXiv:2002.04745; ReZero: Bachlechner et al., arXiv:2003.04887; LayerScale: Touvron et al.,
    arXiv:2103.17239; sandwich norm: Ding et al., arXiv:2105.13290; stochastic depth: Huang et
    al., arXiv:1603.09382. The norms: see `keras_addnorm.layers.norms`.
    """

    def __init__(
        self,
        norm="layer_norm",
        epsilon=1e-5,
        residual_scale=1.0,
        branch_scale=None,
        dropout=0.0,
        return_sum=False,
        branch_scale_axis=None,
        branch_norm="none",
        drop_path=0.0,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(AddNorm, kwargs))
        self.supports_masking = True
        self.norm = norm_config(norm)
        self.epsilon = checks.epsilon("AddNorm", epsilon)
        self.residual_scale = checks.finite("AddNorm", "residual_scale", residual_scale)
        self.branch_scale = branch_scale
        if branch_scale is not None:
            self.branch_scale = checks.finite("AddNorm", "branch_scale", branch_scale)
        self.dropout = checks.rate("AddNorm", "dropout", dropout)
        self.return_sum = bool(return_sum)
        self.branch_scale_axis = _scale_axis(branch_scale_axis, branch_scale)
        self.branch_norm = norm_config(branch_norm)
        self.drop_path = checks.rate("AddNorm", "drop_path", drop_path)
        self.norm_layer = self._norm("norm", norm)
        self.branch_norm_layer = self._norm("branch_norm", branch_norm)
        if isinstance(norm, str):  # It takes the float32 sum as it is; a given layer may not.
            self.norm_layer.autocast = False
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")

    def _norm(self, name, norm):
        return make_norm("AddNorm", norm, self.epsilon, name, dtype=self.dtype_policy, name=name)

    @property
    def uses_mask(self):
        """Whether one of the two norms averages over positions, so that a mask matters."""
        return uses_mask(self.norm_layer) or uses_mask(self.branch_norm_layer)

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
                shape=() if self.branch_scale_axis is None else (x_shape[-1],),
                initializer=keras.initializers.Constant(self.branch_scale),
                autocast=False,
            )
        self.drop_path_layer = Dropout(
            self.drop_path,
            noise_shape=(None, *(1 for _ in x_shape[1:])),  # one decision a sample
            dtype=self.dtype_policy,
            name="drop_path",
        )
        self.norm_layer.build(x_shape)
        self.branch_norm_layer.build(x_shape)
        self.built = True

    def _check_shapes(self, x_shape, y_shape):
        if not checks.same_shape(tuple(x_shape), tuple(y_shape)):
            raise ValueError(
                "AddNorm adds two tensors of the same shape. Received: "
                f"x of shape {tuple(x_shape)}, y of shape {tuple(y_shape)}. Give the sublayer "
                "an output as wide as the residual stream (for instance `output_dim`)."
            )

    def call(self, x, y, mask=None, training=None):
        self._check_shapes(x.shape, y.shape)
        mask = with_attached("AddNorm", "mask", x, mask) if self.uses_mask else None
        y = apply_norm("AddNorm", self.branch_norm_layer, y, mask, training)
        y = self.dropout_layer(y, training=training)
        y = self.drop_path_layer(y, training=training)
        x, y = widen(x), widen(y)
        if self.branch_scale is not None:
            y = ops.multiply(y, ops.cast(self.scale, y.dtype))
        if self.residual_scale != 1.0:
            x = ops.multiply(x, self.residual_scale)
        total = ops.add(x, y)
        normed = apply_norm("AddNorm", self.norm_layer, total, mask, training)
        normed = narrow(normed, self.compute_dtype)
        return (normed, narrow(total, self.compute_dtype)) if self.return_sum else normed

    def compute_mask(self, x, mask=None):
        return (mask, mask) if self.return_sum else mask

    def compute_output_shape(self, x_shape, y_shape):
        self._check_shapes(x_shape, y_shape)
        return (x_shape, x_shape) if self.return_sum else x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "norm": self.norm,
            "epsilon": self.epsilon,
            "residual_scale": self.residual_scale,
            "branch_scale": self.branch_scale,
            "dropout": self.dropout,
            "return_sum": self.return_sum,
            "branch_scale_axis": self.branch_scale_axis,
            "branch_norm": self.branch_norm,
            "drop_path": self.drop_path,
        }


def _scale_axis(axis, branch_scale):
    if axis is None:
        return None
    if isinstance(axis, bool) or axis != -1:
        raise ValueError(
            "AddNorm: `branch_scale_axis` must be None (one scalar) or -1 (one scale a feature). "
            f"Received: branch_scale_axis={axis!r}. Pass -1 for LayerScale, nothing for ReZero."
        )
    if branch_scale is None:
        raise ValueError(
            "AddNorm: `branch_scale_axis` needs a `branch_scale`, where the scales start. "
            f"Received: branch_scale_axis={axis!r}, branch_scale=None. "
            "Pass for instance branch_scale=1e-5."
        )
    return -1
