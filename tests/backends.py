"""What differs from one Keras backend to the next: gradients and compiled calls."""

import keras
import pytest
from keras import ops

from tests.common import to_numpy

BACKEND = keras.backend.backend()
# How each backend compiles a call. JAX has no graph but XLA's.
_EAGER = pytest.param(None, marks=pytest.mark.skip(reason="torch is used eagerly"))
COMPILED = {"tensorflow": ["graph", "xla"], "jax": ["xla"], "torch": [_EAGER]}[BACKEND]

tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="only TensorFlow exports, or traces axes of unknown size"
)


def gradients(layer, loss):
    """Gradients of `loss()`, a function that calls `layer`, by the layer's trainable weights.

    Returns:
        A list of numpy arrays, with None where the backend says that a weight is not used.
    """
    weights = layer.trainable_weights
    found = _GRADIENTS[BACKEND](weights, loss) if weights else []
    return [None if gradient is None else to_numpy(gradient) for gradient in found]


def _tensorflow_gradients(weights, loss):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = loss()
    found = tape.gradient(value, [weight.value for weight in weights])
    # An embedding's gradient is sparse.
    return [None if x is None else tf.convert_to_tensor(x) for x in found]


def _jax_gradients(weights, loss):
    import jax

    def stateless(values):
        with keras.StatelessScope(zip(weights, values, strict=True)):
            return loss()

    return jax.jit(jax.grad(stateless))([weight.value for weight in weights])


def _torch_gradients(weights, loss):
    import torch

    return torch.autograd.grad(loss(), [weight.value for weight in weights], allow_unused=True)


_GRADIENTS = {
    "tensorflow": _tensorflow_gradients,
    "jax": _jax_gradients,
    "torch": _torch_gradients,
}


def compiled(layer, how, **settings):
    """A function of named inputs that calls `layer` compiled, `how` being one of `COMPILED`.

    It updates the layer's state as an eager call does. `settings` (such as `training`) are Python
    values, known while compiling.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        call = tf.function(lambda x: layer(**x, **settings), jit_compile=how == "xla")
        return lambda **inputs: call(keras.tree.map_structure(ops.convert_to_tensor, inputs))
    import jax

    @jax.jit
    def step(trainable, non_trainable, inputs):
        return layer.stateless_call(trainable, non_trainable, **inputs, **settings)

    def call(**inputs):
        trainable = [variable.value for variable in layer.trainable_variables]
        state = [variable.value for variable in layer.non_trainable_variables]
        outputs, state = step(trainable, state, inputs)
        for variable, value in zip(layer.non_trainable_variables, state, strict=True):
            variable.assign(value)
        return outputs

    return call


def traced(function, *specs):
    """`function` of tensors as the backend traces it: the rows of `specs` are (shape, dtype).

    TensorFlow makes one graph, whose axes of size None are unknown in it. JAX traces for each
    size, with `jit`; torch does not trace.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec(*spec) for spec in specs]
        return tf.function(lambda *tensors: function(*tensors), input_signature=signature)
    if BACKEND == "jax":
        import jax

        return jax.jit(lambda *tensors: function(*tensors))
    return function
