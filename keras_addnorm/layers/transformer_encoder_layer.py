"""One post-norm encoder block as a single layer."""

import keras

from keras_addnorm.layers import checks
from keras_addnorm.layers.activations import activation_config, get_activation
from keras_addnorm.layers.add_norm import AddNorm
from keras_addnorm.layers.feed_forward import FeedForward
from keras_addnorm.layers.multi_head_attention import MultiHeadAttention
from keras_addnorm.layers.norms import norm_config
from keras_addnorm.layers.precision import narrow
from keras_addnorm.layers.quantization import layer_config


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TransformerEncoderLayer(keras.layers.Layer):
    """Attention, Add&Norm, feed-forward, Add&Norm: the encoder block of the paper.

        x      = AddNorm(x, MultiHeadAttention(x))
        output = AddNorm(x, FeedForward(x))

    Args:
        intermediate_dim: int, features between the two feed-forward layers.
        num_heads: int, number of heads; must divide the features of the input.
        dropout: float in [0, 1), dropout rate of the scores and of both sublayer outputs.
        activation: the feed-forward activation, as in `FeedForward`.
        norm: the norm of both joints, as in `AddNorm`.
        epsilon: float above 0, the norms' epsilon.
        kernel_initializer: initializer of all kernels.
        bias_initializer: initializer of all biases.

    Call arguments:
        x: float tensor `(batch, length, features)`. Its Keras mask is used and kept.
        padding_mask: `(batch, length)`; True or 1 keeps a position, 0 hides it from all others and
            from norms that average over positions.
        attention_mask: `(batch, length, length)`; True or 1 lets a position see another.
        training: bool, whether dropout is active.

    Output shape:
        The shape of `x`.

    Raises:
        ValueError: on an invalid argument, or a mask of the wrong rank.

    Example:

    ```python
    y = TransformerEncoderLayer(256, num_heads=8)(x, padding_mask=padding_mask)
    ```

    Source: Vaswani et al., arXiv:1706.03762, section 3.1.
    """

    def __init__(
        self,
        intermediate_dim,
        num_heads,
        dropout=0.0,
        activation="relu",
        norm="layer_norm",
        epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(TransformerEncoderLayer, kwargs))
        self.supports_masking = True
        owner = "TransformerEncoderLayer"
        self.intermediate_dim = checks.positive_int(owner, "intermediate_dim", intermediate_dim)
        self.num_heads = checks.positive_int(owner, "num_heads", num_heads)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.activation = get_activation(owner, activation)
        self.norm = norm_config(norm)
        self.epsilon = checks.epsilon(owner, epsilon)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

        common = {"dropout": self.dropout, "dtype": self.dtype_policy}
        initializers = {
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
        }
        self.attention = MultiHeadAttention(
            self.num_heads, name="attention", **common, **initializers
        )
        self.attention_add_norm = AddNorm(norm, self.epsilon, name="attention_add_norm", **common)
        self.feed_forward = FeedForward(
            self.intermediate_dim,
            self.activation,
            dtype=self.dtype_policy,
            name="feed_forward",
            **initializers,
        )
        self.feed_forward_add_norm = AddNorm(
            norm, self.epsilon, name="feed_forward_add_norm", **common
        )

    def build(self, x_shape):
        self.attention.build(x_shape)
        self.attention_add_norm.build(x_shape, x_shape)
        self.feed_forward.build(x_shape)
        self.feed_forward_add_norm.build(x_shape, x_shape)
        self.built = True

    def call(self, x, padding_mask=None, attention_mask=None, training=None):
        if padding_mask is not None and len(padding_mask.shape) != 2:
            raise ValueError(
                "TransformerEncoderLayer: `padding_mask` must have shape (batch, length). "
                f"Received: a mask of shape {tuple(padding_mask.shape)}."
            )
        y = self.attention(
            x, key_mask=padding_mask, attention_mask=attention_mask, training=training
        )
        mask = padding_mask if self.attention_add_norm.uses_mask else None
        x = self.attention_add_norm(x, y, mask=mask, training=training)
        y = self.feed_forward(x, training=training)
        x = self.feed_forward_add_norm(x, y, mask=mask, training=training)
        return narrow(x, self.compute_dtype)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {
            **layer_config(self, super().get_config()),
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "activation": activation_config(self.activation),
            "norm": self.norm,
            "epsilon": self.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
