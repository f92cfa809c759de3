"""The head of a task: from the vectors of an encoder to the outputs of a task."""

import keras

from keras_addnorm.layers import checks
from keras_addnorm.layers.activations import activation_config, get_activation
from keras_addnorm.layers.dense import make_dense
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.norms import apply_norm, make_norm, norm_config, uses_mask
from keras_addnorm.layers.precision import full_precision, narrow, saturate
from keras_addnorm.layers.quantization import layer_config
from keras_addnorm.layers.shapes import flatten, reshape


@keras.saving.register_keras_serializable(package="keras_addnorm")
class Head(keras.layers.Layer):
    """A dense layer for the outputs of a task, behind a hidden layer where there is one.

        h      = norm(activation(input_dropout(x) W + b))      (with `hidden_dim`, else h = x)
        output = dropout(h) W_out + b_out

    The sublayers are `dense`, `norm` and `output`. In mixed precision `output` computes in
    float32, the dtype of its weights, so that logits are not rounded.

    Args:
        output_dim: int, features of the output. None leaves the last layer out: the output is h.
        hidden_dim: int, features of the hidden layer. Default: no hidden layer.
        activation: a key of `ACTIVATIONS` or a callable, of the hidden layer.
        norm: a norm of the hidden layer, as in `AddNorm`; not one that averages over positions.
        epsilon: float above 0, the norm's epsilon.
        dropout: float in [0, 1), dropout rate before the last layer while training.
        input_dropout: float in [0, 1), dropout rate before the hidden layer while training.
        use_bias: bool, whether the layers have a bias; or a list of the names of those that have
            one: dense, output.
        kernel_initializer: initializer of the kernels.
        bias_initializer: initializer of the biases.

    Call arguments:
        x: float tensor `(..., features)`. Its Keras mask is kept.
        training: bool, whether dropout is active.

    Output shape:
        `(..., output_dim)`; `(..., hidden_dim)` without `output_dim`.

    Raises:
        ValueError: on an invalid argument, and on a norm, an input dropout or no `output_dim`
            where there is no hidden layer.

    Example:

    ```python
    x = keras.random.normal((2, 7, 64))
    Head(9)(x)  # (2, 7, 9): a score for each of 9 classes at each position
    Head(2, hidden_dim=64, activation="tanh", dropout=0.1, input_dropout=0.1)(x[:, 0])  # RoBERTa
    Head(2, hidden_dim=64, activation="gelu", norm="layer_norm_no_bias")(x[:, 0])  # ModernBERT
    ```

    Source: Devlin et al., arXiv:1810.04805, section 4; with a hidden layer: Liu et al.,
    arXiv:1907.11692, as in fairseq.
    """

    def __init__(
        self,
        output_dim,
        hidden_dim=None,
        activation="tanh",
        norm="none",
        epsilon=1e-5,
        dropout=0.0,
        input_dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(Head, kwargs))
        self.supports_masking = True
        owner = "Head"
        self.output_dim = checks.optional_positive_int(owner, "output_dim", output_dim)
        self.hidden_dim = checks.optional_positive_int(owner, "hidden_dim", hidden_dim)
        self.activation = get_activation(owner, activation)
        self.norm = norm_config(norm)
        self.epsilon = checks.epsilon(owner, epsilon)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.input_dropout = checks.rate(owner, "input_dropout", input_dropout)
        self.use_bias = checks.flag_or_names(owner, "use_bias", use_bias, ("dense", "output"))
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self._make_sublayers(owner, norm)

    def _make_sublayers(self, owner, norm):
        dtype = {"dtype": self.dtype_policy}
        norm_layer = make_norm(owner, norm, self.epsilon, name="norm", **dtype)
        if uses_mask(norm_layer):
            raise ValueError(
                f"{owner}: `norm` must not average over positions, of which a head knows nothing. "
                f"Received: norm={norm!r}. Pass for instance 'layer_norm'."
            )
        self.dense = self.norm_layer = self.output_dense = None
        if self.hidden_dim is not None:
            self.dense = make_dense(self, "dense", self.hidden_dim)
            self.norm_layer = norm_layer
        elif norm != "none" or self.input_dropout or self.output_dim is None:
            raise ValueError(
                f"{owner}: `norm`, `input_dropout` and an output without `output_dim` are those of "
                f"the hidden layer. Received: norm={norm!r}, input_dropout={self.input_dropout}, "
                f"output_dim={self.output_dim}, hidden_dim=None. Pass a `hidden_dim`."
            )
        if self.output_dim is not None:
            policy = full_precision(self.dtype_policy)
            self.output_dense = make_dense(self, "output", self.output_dim, dtype=policy)
        self.input_dropout_layer = Dropout(self.input_dropout, name="input_dropout", **dtype)
        self.dropout_layer = Dropout(self.dropout, name="dropout", **dtype)

    def build(self, x_shape):
        if self.dense is not None:
            self.dense.build(x_shape)
            x_shape = (*x_shape[:-1], self.hidden_dim)
            self.norm_layer.build(x_shape)
        if self.output_dense is not None:
            self.output_dense.build(x_shape)
        self.built = True

    def call(self, x, training=None):
        y = flatten(x)
        if self.dense is not None:
            y = saturate(self.dense(self.input_dropout_layer(y, training=training)))
            y = apply_norm("Head", self.norm_layer, self.activation(y), training=training)
        if self.output_dense is not None:
            y = self.output_dense(self.dropout_layer(saturate(y), training=training))
        y = narrow(y, self._output_dtype)
        return reshape(y, (*x.shape[:-1], y.shape[-1]), like=x)

    @property
    def _output_dtype(self):
        return (self if self.output_dense is None else self.output_dense).compute_dtype

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.output_dim or self.hidden_dim)

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype=self._output_dtype)

    def get_config(self):
        return {
            **layer_config(self, super().get_config()),
            "output_dim": self.output_dim,
            "hidden_dim": self.hidden_dim,
            "activation": activation_config(self.activation),
            "norm": self.norm,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
