"""Strings in whatever container Keras, TensorFlow and Grain hand them over."""

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
