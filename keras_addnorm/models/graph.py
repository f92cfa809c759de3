"""Python inside the graphs that TensorFlow traces, such as those of `tf.data.Dataset.map`."""

import sys

import keras
import numpy as np


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
