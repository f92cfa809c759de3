"""The position-wise feed-forward network."""

import keras

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import make_dense
from keras_addnorm.layers.shapes import flatten, reshape


@keras.saving.register_keras_serializable(package="keras_addnorm")
def gelu_tanh(x):
    """The tanh approximation of GELU (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {"gelu_tanh": gelu_tanh}


def get_activation(owner, activation, argument="activation"):
    """Resolves an activation: a name of Keras's, `"gelu_tanh"`, a config, or a callable."""
    try:
        if isinstance(activation, str) and activation in ACTIVATIONS:
            return ACTIVATIONS[activation]
        return keras.activations.get(activation)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{owner}: `{argument}` must be a Keras activation such as 'relu' or 'gelu' (exact), "
            f"'gelu_tanh', or a callable. Received: {argument}={activation!r}."
        ) from error


@keras.saving.register_keras_serializable(package="keras_addnorm")
class FeedForward(keras.layers.Layer):
    """Two dense layers applied at each position.

        output = activation(x W1 + b1) W2 + b2        (max(0, x W1 + b1) W2 + b2 by default)

    Args:
        intermediate_dim: int, features between the two layers.
        activation: name of a Keras activation (`"gelu"` is the exact one), `"gelu_tanh"`, or a
            callable.
        dropout: float in [0, 1), dropout rate between the two layers while training.
        output_dim: int, features of the output. Default: the input's.
        use_bias: bool, whether the two layers have a bias.
        kernel_initializer: initializer of the two kernels.
        bias_initializer: initializer of the two biases.

    Call arguments:
        x: float tensor `(..., features)`. Its Keras mask is kept.
        training: bool, whether dropout is active.

    Output shape:
        `(..., output_dim)`.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    y = FeedForward(256)(keras.random.normal((2, 7, 64)))  # (2, 7, 64)
    ```

    Source: Vaswani et al., arXiv:1706.03762, equation 2.
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
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(FeedForward, kwargs))
        self.supports_masking = True
        owner = "FeedForward"
        self.intermediate_dim = checks.positive_int(owner, "intermediate_dim", intermediate_dim)
        self.activation = get_activation(owner, activation)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.output_dim = checks.optional_positive_int(owner, "output_dim", output_dim)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.intermediate_dense = make_dense(self, "intermediate", self.intermediate_dim)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )

    def build(self, x_shape):
        self.intermediate_dense.build(x_shape)
        self.output_dense = make_dense(self, "output", self.output_dim or x_shape[-1])
        self.output_dense.build((*x_shape[:-1], self.intermediate_dim))
        self.built = True

    def call(self, x, training=None):
        y = self.activation(self.intermediate_dense(flatten(x)))
        y = self.output_dense(self.dropout_layer(y, training=training))
        return reshape(y, (*x.shape[:-1], y.shape[-1]), like=x)

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.output_dim or x_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "output_dim": self.output_dim,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
