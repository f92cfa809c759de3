"""The norms that a joint may use, as data.

Every one is a case of

    h = f(g * (x - mu) / sigma + b)

with g and b trainable, and mu and sigma computed in float32 whatever the dtype policy:

| norm               | f                      | mu   | sigma                     | g     | b    |
|--------------------|------------------------|------|---------------------------|-------|------|
| layer_norm         | identity               | E[x] | sqrt(E[(x - mu)^2] + eps) | gamma | beta |
| layer_norm_no_bias | identity               | E[x] | sqrt(E[(x - mu)^2] + eps) | gamma | 0    |
| rms_norm           | identity               | 0    | sqrt(E[x^2] + eps)        | scale | 0    |
| batch_norm         | identity               | R[x] | sqrt(R[(x - mu)^2] + eps) | gamma | beta |
| power_norm         | identity               | 0    | sqrt(R[x^2] + eps)        | gamma | beta |
| dynamic_tanh       | gamma * tanh(.) + beta | 0    | 1                         | alpha | 0    |
| affine             | identity               | 0    | 1                         | gamma | beta |
| none               | identity               | 0    | 1                         | 1     | 0    |

E averages over the features of one position. R averages one feature over rows: all unpadded
positions of the batch while training, and running averages of those at inference. A batch that is
all padding leaves power norm's average as it is; Keras's batch norm averages it in as zeros.
"""

import inspect

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.masking import with_attached
from keras_addnorm.layers.precision import each_policy, narrow

MOMENTUM = 0.99  # the share that running averages keep of themselves in a training step


def _layer_norm(epsilon, **kwargs):
    return keras.layers.LayerNormalization(epsilon=epsilon, **kwargs)


def _layer_norm_no_bias(epsilon, **kwargs):
    return keras.layers.LayerNormalization(epsilon=epsilon, center=False, **kwargs)


def _rms_norm(epsilon, **kwargs):
    layer = keras.layers.RMSNormalization(epsilon=epsilon, **kwargs)
    layer.supports_masking = True  # as Keras's other norms; it warns that it drops the mask
    return layer


def _batch_norm(epsilon, dtype=None, **kwargs):
    # Keras keeps running averages in the policy's variable dtype: in float16, the variance of
    # values above 256 would overflow, and a step of 1% is lost to rounding in either half type.
    policy = each_policy(keras.dtype_policies.get(dtype), _with_float32_weights)
    return keras.layers.BatchNormalization(
        momentum=MOMENTUM, epsilon=epsilon, dtype=policy, **kwargs
    )


def _with_float32_weights(policy):
    if policy.variable_dtype in ("float16", "bfloat16"):
        return keras.dtype_policies.get(f"mixed_{policy.compute_dtype}")
    return policy


def _power_norm(epsilon, **kwargs):
    return PowerNormalization(epsilon=epsilon, **kwargs)


def _dynamic_tanh(epsilon, **kwargs):
    return DynamicTanh(**kwargs)


def _affine(epsilon, **kwargs):
    return Affine(**kwargs)


def _no_norm(epsilon, **kwargs):
    return keras.layers.Identity(**kwargs)


NORMS = {
    "layer_norm": _layer_norm,
    "layer_norm_no_bias": _layer_norm_no_bias,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "power_norm": _power_norm,
    "dynamic_tanh": _dynamic_tanh,
    "affine": _affine,
    "none": _no_norm,
}


def make_norm(owner, norm, epsilon, argument="norm", **kwargs):
    """Builds the norm named `norm` (a key of `NORMS`), or one like a Keras layer or its config."""
    serialized = norm_config(norm)
    if isinstance(serialized, dict) and isinstance(serialized.get("config"), dict):
        dtype = keras.dtype_policies.serialize(keras.dtype_policies.get(kwargs.get("dtype")))
        config = {**serialized["config"], "dtype": dtype}
        layer = keras.saving.deserialize_keras_object({**serialized, "config": config})
        if isinstance(layer, keras.Layer):
            return layer
    if not isinstance(norm, str) or norm not in NORMS:
        raise ValueError(
            f"{owner}: `{argument}` must be one of {', '.join(map(repr, NORMS))}, or a Keras layer "
            f"instance. Received: {argument}={norm!r}."
        )
    return NORMS[norm](epsilon, **kwargs)


def norm_config(norm):
    """The JSON form of a `norm` argument."""
    return keras.saving.serialize_keras_object(norm) if isinstance(norm, keras.Layer) else norm


def uses_mask(layer):
    """Whether a norm averages over positions, so that it must know which ones are padding."""
    return "mask" in inspect.signature(layer.call).parameters


def apply_norm(owner, layer, x, mask=None, training=None):
    """Calls a norm, with the mask of unpadded positions and `training` where it uses them.

    `training` is passed on: Keras's call context, where a sublayer would find it, is empty in
    `stateless_call`, so on JAX batch statistics would stay unused.
    """
    kwargs = {}
    # Running statistics need no mask, and Keras would attach it to the output: ops for nothing.
    running = not training and isinstance(
        layer, (keras.layers.BatchNormalization, PowerNormalization)
    )
    if mask is not None and uses_mask(layer) and not running:
        kwargs["mask"] = _keep(owner, x, mask)
    if training is not None and "training" in inspect.signature(layer.call).parameters:
        kwargs["training"] = training
    return layer(x, **kwargs)


def _keep(owner, x, mask):
    """A mask as bool, of the shape of `x` without its features."""
    keep = ops.cast(with_attached(owner, "mask", x, mask), "bool")
    if tuple(keep.shape) == tuple(x.shape[:-1]):
        return keep
    return ops.logical_and(keep, ops.ones(ops.shape(x)[:-1], "bool"))  # else it counts too few


@keras.saving.register_keras_serializable(package="keras_addnorm")
class PowerNormalization(keras.layers.Layer):
    """Divides each feature by its quadratic mean over the unpadded positions of the batch.

        output  = gamma * x / sqrt(square + epsilon) + beta
        square  = mean over unpadded positions of x^2         (training; else the running one)
        running = 0.99 * running + 0.01 * square              (after each training step)

    No mean is subtracted. Statistics are float32, and belong to one feature each. A batch without
    any unpadded position uses and leaves the running average. This is PN-V of the paper; its PN
    also trains on running averages, with an approximate gradient.

    Args:
        epsilon: float above 0, added to the quadratic mean.

    Call arguments:
        x: float tensor `(..., features)`. Its Keras mask is used and kept.
        mask: `x`'s shape without the features; True or 1 for unpadded positions.
        training: bool, whether the batch's own statistics are used. With `trainable=False` the
            running ones always are.

    Output shape:
        The shape of `x`.

    Raises:
        ValueError: on an invalid argument, or a mask of the wrong rank.

    Example:

    ```python
    y = PowerNormalization()(x, mask=padding_mask, training=True)
    ```

    Source: Shen et al., arXiv:2003.07845, section 4.1.
    """

    def __init__(self, epsilon=1e-5, **kwargs):
        super().__init__(**checks.known_arguments(PowerNormalization, kwargs))
        self.supports_masking = True
        self.epsilon = checks.epsilon("PowerNormalization", epsilon)

    def build(self, x_shape):
        shape = (x_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.moving_square = self.add_weight(
            name="moving_square",
            shape=shape,
            initializer="ones",
            dtype="float32",
            trainable=False,
            autocast=False,
        )
        self.built = True

    def call(self, x, mask=None, training=None):
        x = ops.cast(x, "float32")
        square = ops.convert_to_tensor(self.moving_square)
        if training and self.trainable:
            kept = None if mask is None else _keep("PowerNormalization", x, mask)
            running, square = square, _mean_square(x, kept, square)
            self.moving_square.assign(
                ops.add(ops.multiply(running, MOMENTUM), ops.multiply(square, 1.0 - MOMENTUM))
            )
        scale = ops.multiply(
            ops.cast(self.gamma, "float32"), ops.rsqrt(ops.add(square, self.epsilon))
        )
        output = ops.add(ops.multiply(x, scale), ops.cast(self.beta, "float32"))
        return ops.cast(output, self.compute_dtype)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def _mean_square(x, keep, otherwise):
    """Mean of x^2 for each feature over the kept positions, `otherwise` where there are none."""
    axes = tuple(range(len(x.shape) - 1))
    if keep is None:
        return ops.mean(ops.square(x), axis=axes)
    x = ops.where(ops.expand_dims(keep, -1), x, 0.0)  # a product would let NaN through
    count = ops.sum(ops.cast(keep, "float32"))
    mean = ops.divide(ops.sum(ops.square(x), axis=axes), ops.maximum(count, 1.0))
    return ops.where(ops.greater(count, 0.0), mean, otherwise)


@keras.saving.register_keras_serializable(package="keras_addnorm")
class DynamicTanh(keras.layers.Layer):
    """Squashes each feature instead of normalizing it, in float32.

        output = gamma * tanh(alpha * x) + beta

    There are no statistics. `gamma` and `beta` have one value a feature, `alpha` is a scalar.

    Args:
        alpha: float, where the trainable `alpha` starts.

    Call arguments:
        x: float tensor `(..., features)`. Its Keras mask is kept.

    Output shape:
        The shape of `x`.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    y = DynamicTanh()(x)
    ```

    Source: Zhu et al., arXiv:2503.10622, section 4.
    """

    def __init__(self, alpha=0.5, **kwargs):
        super().__init__(**checks.known_arguments(DynamicTanh, kwargs))
        self.supports_masking = True
        self.alpha = checks.finite("DynamicTanh", "alpha", alpha)

    def build(self, x_shape):
        shape = (x_shape[-1],)
        start = keras.initializers.Constant(self.alpha)
        self.slope = self.add_weight(name="alpha", shape=(), initializer=start, autocast=False)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.built = True

    def call(self, x):
        slope, gamma, beta = (
            ops.cast(weight, "float32") for weight in (self.slope, self.gamma, self.beta)
        )
        bounded = ops.tanh(ops.multiply(ops.cast(x, "float32"), slope))
        return ops.cast(ops.add(ops.multiply(bounded, gamma), beta), self.compute_dtype)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable(package="keras_addnorm")
class Affine(keras.layers.Layer):
    """Scales and shifts each feature, in float32: what is left of a norm without its statistics.

        output = gamma * x + beta

    MobileBERT calls it NoNorm: it is faster than layer norm and can take its place in a student
    that learns from a teacher.

    Call arguments:
        x: float tensor `(..., features)`. Its Keras mask is kept.

    Output shape:
        The shape of `x`.

    Raises:
        ValueError: on an unknown argument.

    Example:

    ```python
    y = Affine()(x)
    ```

    Source: Sun et al., arXiv:2004.02984, section 3.3.
    """

    def __init__(self, **kwargs):
        super().__init__(**checks.known_arguments(Affine, kwargs))
        self.supports_masking = True

    def build(self, x_shape):
        shape = (x_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.built = True

    def call(self, x):
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        output = ops.add(ops.multiply(ops.cast(x, "float32"), gamma), beta)
        return narrow(output, self.compute_dtype)

    def compute_output_shape(self, x_shape):
        return x_shape
