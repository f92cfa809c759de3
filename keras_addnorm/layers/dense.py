"""The dense sublayers that the layers of this package are made of."""

import contextlib
import contextvars

import keras

_VALUES_FOLLOW = contextvars.ContextVar("values_follow", default=False)


def make_dense(owner, name, units, kernel_initializer=None, dtype=None):
    """A `keras.layers.Dense` with the bias, initializers and dtype policy of the layer `owner`."""
    kernel_initializer = kernel_initializer or owner.kernel_initializer
    return keras.layers.Dense(
        units,
        use_bias=owner.use_bias if isinstance(owner.use_bias, bool) else name in owner.use_bias,
        kernel_initializer=copy_initializer(kernel_initializer),
        bias_initializer=copy_initializer(owner.bias_initializer),
        dtype=owner.dtype_policy if dtype is None else dtype,
        name=name,
    )


def copy_initializer(initializer):
    """A copy: an initializer draws the same values each time it is used, so each weight has one."""
    if not isinstance(initializer, keras.Initializer):
        return initializer
    return keras.initializers.Zeros() if _VALUES_FOLLOW.get() else initializer.clone()


@contextlib.contextmanager
def values_follow():
    """Weights that are made meanwhile are zeros: their values are going to be loaded.

    Random ones would cost time, and several times the memory of the largest weight. The
    configs of the layers keep their initializers.
    """
    token = _VALUES_FOLLOW.set(True)
    try:
        yield
    finally:
        _VALUES_FOLLOW.reset(token)
