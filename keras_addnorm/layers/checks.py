"""Argument checks shared by every constructor: state the rule, what was received, and the fix."""

import difflib
import inspect
import json
import math
import numbers

import keras
import numpy as np

BASE_ARGUMENTS = ("name", "dtype", "trainable", "autocast", "activity_regularizer")


def known_arguments(cls, kwargs):
    """Refuses keyword arguments that neither `cls` nor `keras.layers.Layer` knows."""
    unknown = [name for name in kwargs if name not in BASE_ARGUMENTS]
    if not unknown:
        return kwargs
    choices = _arguments(cls) + list(BASE_ARGUMENTS)
    close = difflib.get_close_matches(unknown[0], choices, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    raise ValueError(
        f"{cls.__name__} has no argument `{unknown[0]}`.{hint} "
        f"Its arguments are: {', '.join(choices)}. Received: {kwargs}"
    )


def _arguments(cls):
    return [
        name
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]


def options(owner, name, value, cls, reserved):
    """Returns a dict of further arguments of `cls` as plain data; empty for None.

    Args:
        owner, name: of the model and its argument, for the error.
        value: dict or None.
        cls: the layer class, or None where there is no layer to pass options to.
        reserved: arguments of `cls` that the model tells it itself.
    """
    allowed = [] if cls is None else [x for x in _arguments(cls) if x not in reserved]
    fix = f"Pass some of {', '.join(allowed)}." if allowed else f"Leave out `{name}`."
    if value is not None and not (isinstance(value, dict) and set(value) <= set(allowed)):
        raise ValueError(
            f"{owner}: `{name}` must be a dict of arguments of "
            f"{cls.__name__ if cls else 'a layer, of which there is none here'}, without those "
            f"that the model sets. Received: {name}={value!r}. {fix}"
        )
    try:
        return json.loads(json.dumps(value or {}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: `{name}` must be plain data, as the config is: numbers, strings, lists and "
            f"dicts. Received: {name}={value!r}. Pass the names of norms, activations and "
            "initializers, not objects."
        ) from error


def positive_int(owner, name, value, limit=2**31 - 1, least=1):
    """Returns `value` as a Python int, or raises if it is not an integer in [least, limit]."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= limit:
        raise ValueError(
            f"{owner}: `{name}` must be a whole number from {least} to {limit}. "
            f"Received: {name}={value!r}. Pass a positive int{'' if least else ' or 0'}."
        )
    return int(value)


def optional_positive_int(owner, name, value):
    """`positive_int`, with None let through (the size is then inferred)."""
    return None if value is None else positive_int(owner, name, value)


def non_negative_int(owner, name, value):
    """`positive_int`, with 0 let through (the part is then left out)."""
    return positive_int(owner, name, value, least=0)


def finite(owner, name, value):
    """Returns `value` as a float, or raises if it is not a finite real number."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value):
        raise ValueError(
            f"{owner}: `{name}` must be a finite number. "
            f"Received: {name}={value!r}. Pass a float such as 1.0."
        )
    return float(value)


def positive(owner, name, value):
    """Returns `value` as a float, or raises unless it is finite and above 0."""
    value = finite(owner, name, value)
    if value <= 0.0:
        raise ValueError(
            f"{owner}: `{name}` must be above 0. Received: {name}={value!r}. Pass a positive float."
        )
    return value


def epsilon(owner, value):
    """Returns a norm's epsilon as a float, or raises unless it is finite and positive."""
    value = finite(owner, "epsilon", value)
    if value <= 0.0:
        raise ValueError(
            f"{owner}: `epsilon` must be above 0, or a constant row divides by zero. "
            f"Received: epsilon={value!r}. Pass a small float such as 1e-5."
        )
    return value


def rate(owner, name, value):
    """Returns a dropout rate as a float, or raises unless it is in [0, 1)."""
    value = finite(owner, name, value)
    if not 0.0 <= value < 1.0:
        raise ValueError(
            f"{owner}: `{name}` is the share of units to drop, from 0 up to but not including 1. "
            f"Received: {name}={value!r}. Pass for instance 0.1."
        )
    return value


def boolean(owner, name, value):
    """Returns `value`, or raises if it is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(
            f"{owner}: `{name}` must be True or False. Received: {name}={value!r}. Pass a bool."
        )
    return value


def flag_or_names(owner, name, value, names):
    """Returns `value` as a bool, or as a list if it is a sequence of some of `names`."""
    if isinstance(value, (list, tuple)) and all(x in names for x in value):
        return list(value)
    if isinstance(value, bool):
        return value
    raise ValueError(
        f"{owner}: `{name}` must be True, False, or a list of some of {', '.join(names)}. "
        f"Received: {name}={value!r}. Pass for instance {list(names[:1])}."
    )


def values(x):
    """The values of a tensor as a numpy array; None while a graph is traced, and where reading
    them would make an accelerator wait."""
    device = getattr(x, "device", None)  # torch: has a type; JAX: has a platform; TF: a string
    kind = getattr(device, "type", None) or getattr(device, "platform", None) or device
    if any(word in str(kind).lower() for word in ("gpu", "cuda", "tpu", "xpu", "mps")):
        return None
    try:
        return np.asarray(keras.ops.convert_to_numpy(x))
    except Exception:  # Each backend has its own error for a tensor without values.
        return None


def ids_below(owner, name, ids, limit, limit_name):
    """Raises ValueError if an integer tensor holds values outside of [0, limit), if that can be
    told: backends clip such ids in silence, or return NaN."""
    array = values(ids)
    if array is None or array.size == 0 or (array.min() >= 0 and array.max() < limit):
        return
    raise ValueError(
        f"{owner}: `{name}` must be from 0 to {limit - 1} ({limit_name}={limit}). Received: values "
        f"from {array.min()} to {array.max()}. Tokenize with the model's own vocabulary, or pass a "
        f"larger {limit_name}."
    )


def same_shape(a, b):
    """Whether two shapes are equal, as far as their sizes are known."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def choice(owner, name, value, choices):
    """Returns `value`, or raises unless it is one of `choices`."""
    if value not in tuple(choices):
        raise ValueError(
            f"{owner}: `{name}` must be one of {', '.join(repr(c) for c in choices)}. "
            f"Received: {name}={value!r}."
        )
    return value


def divides(owner, name, value, heads_name, heads):
    """Returns `value // heads`, or raises unless the heads share `value` equally."""
    if value % heads:
        raise ValueError(
            f"{owner}: `{name}` must be divisible by `{heads_name}`, so that every head gets an "
            f"equal share. Received: {name}={value}, {heads_name}={heads}. "
            f"Pass a {heads_name} that divides {value}, or set the size of a head yourself."
        )
    return value // heads
