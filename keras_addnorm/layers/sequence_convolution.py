"""A convolution over the positions of a padded sequence."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.activations import activation_config, get_activation
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.masking import clear_padding, with_attached
from keras_addnorm.layers.precision import narrow, saturate

MAX_KERNEL_SIZE = 999


@keras.saving.register_keras_serializable(package="keras_addnorm")
class SequenceConvolution(keras.layers.Layer):
    """Mixes neighbouring positions, with zeros for padding and beyond both ends.

        output[t] = activation(dropout(sum_s keep[t + s] x[t + s] W_s + b))

    with s from -(kernel_size - 1) / 2 to (kernel_size - 1) / 2: as many positions as before.

    Args:
        kernel_size: odd int, number of neighbours that are mixed.
        activation: name of the activation, as in `FeedForward`.
        groups: int that divides the features: each group of features sees only its own.
        dropout: float in [0, 1), dropout rate before the activation while training.
        use_bias: bool, whether there is a bias.
        kernel_initializer: initializer of the kernel.
        bias_initializer: initializer of the bias.
        guard_padding: bool. True keeps NaN and infinity at padded positions away from the
            others, at the cost of one `where`; without it the hidden content must be finite.

    Call arguments:
        x: float tensor `(batch, length, features)`. Its Keras mask is used and kept.
        mask: `(batch, length)`; True or 1 for unpadded positions.
        training: bool, whether dropout is active.

    Output shape:
        `(batch, length, features)`.

    Raises:
        ValueError: on an invalid argument, an input that is not of rank 3, or a mask of the wrong
            shape.

    Example:

    ```python
    x = keras.random.normal((2, 7, 64))
    y = AddNorm()(x, SequenceConvolution(3, "gelu")(x))
    ```

    Source: the convolution layer of DeBERTa-v2, in the authors' code to He et al.,
    arXiv:2006.03654.
    """

    def __init__(
        self,
        kernel_size=3,
        activation="tanh",
        groups=1,
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        guard_padding=True,
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(SequenceConvolution, kwargs))
        self.supports_masking = True
        owner = "SequenceConvolution"
        self.kernel_size = checks.positive_int(
            owner, "kernel_size", kernel_size, limit=MAX_KERNEL_SIZE
        )
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"{owner}: `kernel_size` must be odd, a position in the middle of its neighbours. "
                f"Received: kernel_size={kernel_size}. Pass for instance 3."
            )
        self.activation = get_activation(owner, activation)
        self.groups = checks.positive_int(owner, "groups", groups)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.use_bias = checks.boolean(owner, "use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.guard_padding = checks.boolean(owner, "guard_padding", guard_padding)
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, x_shape):
        if len(x_shape) != 3 or x_shape[-1] is None:
            raise ValueError(
                "SequenceConvolution: `x` must have shape (batch, length, features) with known "
                f"features. Received: x of shape {tuple(x_shape)}. Reshape it first."
            )
        checks.divides("SequenceConvolution", "features", x_shape[-1], "groups", self.groups)
        self.convolution = keras.layers.Conv1D(
            x_shape[-1],
            self.kernel_size,
            padding="same",
            data_format="channels_last",
            groups=self.groups,
            use_bias=self.use_bias,
            kernel_initializer=copy_initializer(self.kernel_initializer),
            bias_initializer=copy_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name="convolution",
        )
        self.convolution.build(x_shape)
        self.built = True

    def call(self, x, mask=None, training=None):
        keep = with_attached("SequenceConvolution", "mask", x, mask)
        if keep is not None and self.guard_padding:
            x = clear_padding(x, keep)
        elif keep is not None:
            x = ops.multiply(x, ops.cast(ops.expand_dims(keep, -1), x.dtype))
        y = self.dropout_layer(saturate(self.convolution(x)), training=training)
        return narrow(self.activation(y), self.compute_dtype)

    def compute_output_shape(self, x_shape):
        return tuple(x_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "activation": activation_config(self.activation),
            "groups": self.groups,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "guard_padding": self.guard_padding,
        }
