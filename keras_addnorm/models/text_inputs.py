"""Strings in whatever container Keras, TensorFlow and Grain hand them over."""

import sys

import keras
import numpy as np


def to_texts(inputs):
    """Strings as a list of `str`.

    Args:
        inputs: a string, a list or tuple of strings, or an array or eager tensor of strings.

    Returns:
        `(texts, is_batch)`; a single string becomes a list of one.

    Raises:
        ValueError: if there is something else than UTF-8 strings in it.
    """
    inputs = _to_python(inputs)
    is_batch = isinstance(inputs, (list, tuple))
    return [_decode(text) for text in (inputs if is_batch else [inputs])], is_batch


def to_words(inputs):
    """Sentences as lists of words; see `to_texts`.

    Args:
        inputs: a list of lists of words, a 2-D array or a ragged tensor of words. Empty strings
            at the end of a row are padding.
    """
    return [to_texts(row)[0] for row in _to_python(inputs)]


def are_words(inputs):
    """Whether inputs are sentences split into words, rather than a text or a list of texts."""
    if not isinstance(inputs, (str, bytes, list, tuple)):
        return len(inputs.shape) > 1  # arrays and tensors, of a graph too
    return isinstance(inputs, (list, tuple)) and any(
        isinstance(_to_python(row), (list, tuple)) for row in inputs
    )


def is_pair_of_texts(x):
    """Whether `x` is a tuple of two texts, or of two batches of texts."""
    return isinstance(x, tuple) and len(x) == 2 and all(_is_text(part) for part in x)


def _is_text(x):
    if isinstance(x, (list, tuple)):
        return bool(x) and isinstance(x[0], (str, bytes))
    dtype = getattr(x, "dtype", None)
    if isinstance(dtype, np.dtype):
        return dtype.kind in "US" or (dtype.kind == "O" and all(_is_text(t) for t in x.flat))
    return isinstance(x, (str, bytes)) or (dtype is not None and "string" in str(dtype))


def _to_python(inputs):
    """Arrays and tensors as nested lists, or as a scalar."""
    if isinstance(inputs, (str, bytes, list, tuple)):
        return inputs
    if type(inputs).__name__ == "RaggedTensor":
        return inputs.to_list()
    return np.asarray(inputs).tolist()


def _decode(text):
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        text.encode("utf-8")  # Half a surrogate pair is no text.
        return text
    except (AttributeError, UnicodeError) as error:
        raise ValueError(
            "Texts must be strings in UTF-8. "
            f"Received: {ascii(text)[:80]} of type {type(text).__name__}. Decode or drop it."
        ) from error


def in_graph():
    """Whether TensorFlow is tracing a function, such as one mapped over a `tf.data.Dataset`."""
    tf = sys.modules.get("tensorflow")
    return tf is not None and not tf.executing_eagerly()


def call_in_graph(function, inputs, outputs):
    """Calls a function of arrays from a TensorFlow graph.

    Args:
        function: takes an array for each of `inputs`, a list of lists for a ragged one, and
            returns arrays in the structure of `outputs`.
        inputs: list of tensors and ragged tensors.
        outputs: a structure of `keras.KerasTensor`, the shapes and dtypes of what comes back.

    Returns:
        Tensors in the structure of `outputs`, with static shapes.
    """
    import tensorflow as tf

    ragged = [isinstance(x, tf.RaggedTensor) for x in inputs]
    tensors = []
    for tensor, is_ragged in zip(inputs, ragged, strict=True):
        tensors += [tensor.flat_values, tensor.row_lengths()] if is_ragged else [tensor]
    specs = keras.tree.flatten(outputs)

    def run(*arrays):
        arrays = iter(arrays)
        values = [
            _rows(next(arrays), next(arrays)) if is_ragged else next(arrays) for is_ragged in ragged
        ]
        return keras.tree.flatten(function(*values))

    results = tf.numpy_function(run, tensors, [spec.dtype for spec in specs])
    for result, spec in zip(results, specs, strict=True):
        result.set_shape(spec.shape)
    return keras.tree.pack_sequence_as(outputs, results)


def _rows(flat, lengths):
    """The rows of a ragged tensor as lists."""
    return [row.tolist() for row in np.split(flat, np.cumsum(lengths)[:-1])] if len(lengths) else []
