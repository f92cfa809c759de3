"""Small functions that several test files use."""

import keras
import numpy as np
from keras import ops


def to_numpy(x):
    """A tensor as a float32 numpy array; exact for float32, float16 and bfloat16."""
    return np.asarray(ops.convert_to_numpy(ops.cast(x, "float32")))


def keras_mask(x):
    """The Keras mask attached to a tensor, or None."""
    return getattr(x, "_keras_mask", None)


def randomize(layer, rng):
    """Gives every float weight of a built layer a random value.

    Fresh weights hide mistakes: biases start at 0 and norm scales at 1, so neither shows.
    """
    for weight in layer.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            weight.assign(0.5 * rng.normal(size=weight.shape) + 0.1)
    return layer


def weights_of(layer):
    """The weights of a layer as `{path below the layer: float64 array}`."""
    prefix = f"{layer.path}/"
    return {
        w.path.removeprefix(prefix): to_numpy(w.value).astype("float64") for w in layer.weights
    }


def flat_outputs(outputs):
    """All output tensors of a layer or model as numpy arrays, in a fixed order."""
    return [to_numpy(x) for x in keras.tree.flatten(outputs)]
