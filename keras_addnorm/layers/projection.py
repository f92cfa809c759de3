"""A dense layer and a norm at each position."""

import keras

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import make_dense
from keras_addnorm.layers.masking import with_attached
from keras_addnorm.layers.norms import apply_norm, make_norm, norm_config, uses_mask
from keras_addnorm.layers.precision import narrow, saturate
from keras_addnorm.layers.quantization import layer_config
from keras_addnorm.layers.shapes import flatten, reshape


@keras.saving.register_keras_serializable(package="keras_addnorm")
class Projection(keras.layers.Layer):
    """Maps each position to another width, and may normalize the result.

        output = norm(x W + b)

    It leads into the narrow blocks of MobileBERT, and out of them.

    Args:
        output_dim: int, features of the output.
        norm: a norm as in `AddNorm`. Default: none.
        epsilon: float above 0, the norm's epsilon.
        use_bias: bool, whether the dense layer has a bias.
        kernel_initializer: initializer of the kernel.
        bias_initializer: initializer of the bias.

    Call arguments:
        x: float tensor `(batch, length, features)`. Its Keras mask is used and kept.
        mask: `(batch, length)`; True or 1 for unpadded positions, for a norm that averages over
            positions.
        training: bool, whether batch statistics come from the batch.

    Output shape:
        `(batch, length, output_dim)`.

    Raises:
        ValueError: on an invalid argument, or a mask of the wrong rank that a norm needs.

    Example:

    ```python
    y = Projection(128, norm="layer_norm")(keras.random.normal((2, 7, 512)))  # (2, 7, 128)
    ```

    Source: Sun et al., arXiv:2004.02984, section 3.1.
    """

    def __init__(
        self,
        output_dim,
        norm="none",
        epsilon=1e-5,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(Projection, kwargs))
        self.supports_masking = True
        owner = "Projection"
        self.output_dim = checks.positive_int(owner, "output_dim", output_dim)
        self.norm = norm_config(norm)
        self.epsilon = checks.epsilon(owner, epsilon)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.dense = make_dense(self, "dense", self.output_dim)
        self.norm_layer = make_norm(owner, norm, self.epsilon, dtype=self.dtype_policy, name="norm")

    @property
    def uses_mask(self):
        """Whether the norm averages over positions, so that a mask matters."""
        return uses_mask(self.norm_layer)

    def build(self, x_shape):
        self.dense.build((None, x_shape[-1]))
        self.norm_layer.build((*x_shape[:-1], self.output_dim))
        self.built = True

    def call(self, x, mask=None, training=None):
        mask = with_attached("Projection", "mask", x, mask) if self.uses_mask else None
        y = saturate(self.dense(flatten(x)))  # [batch * length, output_dim]
        y = reshape(y, (*x.shape[:-1], self.output_dim), like=x)
        y = apply_norm("Projection", self.norm_layer, y, mask, training)
        return narrow(y, self.compute_dtype)

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.output_dim)

    def get_config(self):
        return {
            **layer_config(self, super().get_config()),
            "output_dim": self.output_dim,
            "norm": self.norm,
            "epsilon": self.epsilon,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
