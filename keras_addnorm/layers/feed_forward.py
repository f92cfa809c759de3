"""The position-wise feed-forward network."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.activations import activation_config, get_activation
from keras_addnorm.layers.dense import make_dense
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.precision import narrow, saturate
from keras_addnorm.layers.quantization import layer_config
from keras_addnorm.layers.shapes import flatten, reshape


@keras.saving.register_keras_serializable(package="keras_addnorm")
class FeedForward(keras.layers.Layer):
    """Two dense layers applied at each position, or three with a gate.

        output = activation(x W1 + b1) W2 + b2        (max(0, x W1 + b1) W2 + b2 by default)
        gated:   (activation(x Wg + bg) * (x W1 + b1)) W2 + b2

    Gated with `"gelu"` it is GeGLU, with `"silu"` SwiGLU, with `"sigmoid"` the original GLU. The
    sublayers are `gate`, `intermediate` and `output`; fused, `intermediate` is `[Wg, W1]`.

    Args:
        intermediate_dim: int, features between the layers.
        activation: a key of `ACTIVATIONS` (`"gelu"` is the exact one) or a callable.
        dropout: float in [0, 1), dropout rate before the last layer while training.
        output_dim: int, features of the output. Default: the input's.
        use_bias: bool, whether the layers have a bias; or a list of the names of those that have
            one: gate, intermediate, output.
        kernel_initializer: initializer of the kernels.
        bias_initializer: initializer of the biases.
        gated: bool, whether an activated gate multiplies the intermediate features.
        fused: bool, whether gate and intermediate share one kernel of twice the width, the gate
            being its first half. The outputs are the same; the initial values are not.

    Call arguments:
        x: float tensor `(..., features)`. Its Keras mask is kept.
        training: bool, whether dropout is active.

    Output shape:
        `(..., output_dim)`.

    Raises:
        ValueError: on an invalid argument, or `fused` without `gated`.

    Example:

    ```python
    x = keras.random.normal((2, 7, 64))
    y = FeedForward(256)(x)                      # (2, 7, 64)
    y = FeedForward(172, "silu", gated=True)(x)  # SwiGLU
    ```

    Source: Vaswani et al., arXiv:1706.03762, equation 2; gated: Shazeer, arXiv:2002.05202.
    """

    def __init__(
        self,
        intermediate_dim,
        activation="relu",
        dropout=0.0,
        output_dim=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        gated=False,
        fused=False,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(FeedForward, kwargs))
        self.supports_masking = True
        owner = "FeedForward"
        self.intermediate_dim = checks.positive_int(owner, "intermediate_dim", intermediate_dim)
        self.activation = get_activation(owner, activation)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.output_dim = checks.optional_positive_int(owner, "output_dim", output_dim)
        self.use_bias = checks.flag_or_names(
            owner, "use_bias", use_bias, ("gate", "intermediate", "output")
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.gated = bool(gated)
        self.fused = bool(fused)
        if self.fused and not self.gated:
            raise ValueError(
                f"{owner}: `fused` joins the kernels of gate and intermediate features, so there "
                f"must be a gate. Received: fused={fused!r}, gated={gated!r}. Pass gated=True."
            )
        width = self.intermediate_dim * (2 if self.fused else 1)
        self.intermediate_dense = make_dense(self, "intermediate", width)
        self.gate_dense = None
        if self.gated and not self.fused:
            self.gate_dense = make_dense(self, "gate", self.intermediate_dim)
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, x_shape):
        self.intermediate_dense.build(x_shape)
        if self.gate_dense is not None:
            self.gate_dense.build(x_shape)
        self.output_dense = make_dense(self, "output", self.output_dim or x_shape[-1])
        self.output_dense.build((*x_shape[:-1], self.intermediate_dim))
        self.built = True

    def call(self, x, training=None):
        y = self._intermediate(flatten(x))  # [rows, intermediate_dim]
        y = self.dropout_layer(saturate(y), training=training)
        y = narrow(self.output_dense(saturate(y)), self.compute_dtype)
        return reshape(y, (*x.shape[:-1], y.shape[-1]), like=x)

    def _intermediate(self, rows):
        y = saturate(self.intermediate_dense(rows))
        if not self.gated:
            return self.activation(y)
        gate, y = ops.split(y, 2, axis=-1) if self.fused else (saturate(self.gate_dense(rows)), y)
        return ops.multiply(self.activation(gate), y)

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.output_dim or x_shape[-1])

    def get_config(self):
        return {
            **layer_config(self, super().get_config()),
            "intermediate_dim": self.intermediate_dim,
            "activation": activation_config(self.activation),
            "dropout": self.dropout,
            "output_dim": self.output_dim,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "gated": self.gated,
            "fused": self.fused,
        }
