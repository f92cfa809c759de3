"""The activations that published encoders use, by name."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_addnorm")
def gelu_tanh(x):
    """The tanh approximation of GELU (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="keras_addnorm")
def quick_gelu(x):
    """x sigmoid(1.702 x), the sigmoid approximation of GELU (same source), as in CLIP."""
    return ops.multiply(x, ops.sigmoid(ops.multiply(x, 1.702)))


@keras.saving.register_keras_serializable(package="keras_addnorm")
def relu_squared(x):
    """max(0, x)^2, of Primer (So et al., arXiv:2109.08668, section 3)."""
    return ops.square(ops.relu(x))


# Not among them: `leaky_relu`, whose slope differs from one library to the next, and `selu`, which
# costs a converted graph a delegate partition. Both can be passed as callables.
ACTIVATIONS = {
    "elu": keras.activations.elu,
    "gelu": keras.activations.gelu,
    "gelu_tanh": gelu_tanh,
    "hard_silu": keras.activations.hard_silu,
    "linear": keras.activations.linear,
    "mish": keras.activations.mish,
    "quick_gelu": quick_gelu,
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "relu_squared": relu_squared,
    "sigmoid": keras.activations.sigmoid,
    "silu": keras.activations.silu,
    "tanh": keras.activations.tanh,
}


def get_activation(owner, activation, argument="activation"):
    """Resolves an activation: a key of `ACTIVATIONS`, a registered config, or a callable."""
    cause = None
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if callable(activation):
        return activation
    if isinstance(activation, dict):
        try:
            return keras.activations.get(activation)
        except (ValueError, TypeError) as error:
            cause = error
    raise ValueError(
        f"{owner}: `{argument}` must be one of {', '.join(map(repr, ACTIVATIONS))} ('gelu' is the "
        "exact one), the config of a function registered with Keras, or a callable. "
        f"Received: {argument}={activation!r}."
    ) from cause


def activation_config(activation):
    """The JSON form of a resolved activation: its name in `ACTIVATIONS`, or Keras's config."""
    for name, function in ACTIVATIONS.items():
        if activation is function:
            return name
    return keras.activations.serialize(activation)
