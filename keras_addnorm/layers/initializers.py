"""Initializers that schemes of residual connections ask for."""

import keras

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import copy_initializer


@keras.saving.register_keras_serializable(package="keras_addnorm")
class ScaledInitializer(keras.initializers.Initializer):
    """Another initializer's values times a constant.

        value = gain * initializer(shape)

    Args:
        initializer: the other initializer: a name, a config or an instance.
        gain: float above 0.

    Example:

    ```python
    keras.layers.Dense(64, kernel_initializer=ScaledInitializer("glorot_uniform", 0.38))
    ```

    Source: Wang et al., arXiv:2203.00555, equation 4 (DeepNorm's beta).
    """

    def __init__(self, initializer, gain):
        self.initializer = keras.initializers.get(initializer)
        self.gain = checks.positive("ScaledInitializer", "gain", gain)

    def __call__(self, shape, dtype=None):
        return self.initializer(shape, dtype=dtype) * self.gain

    def clone(self):
        """A copy that draws other values, as `Initializer.clone` does."""
        return ScaledInitializer(copy_initializer(self.initializer), self.gain)

    def get_config(self):
        return {"initializer": keras.initializers.serialize(self.initializer), "gain": self.gain}
