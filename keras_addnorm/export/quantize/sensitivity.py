"""Which matrices a few more bytes help most: what each one alone costs a model's outputs."""

import copy

import numpy as np

from keras_addnorm.export.quantize.calibration import record
from keras_addnorm.export.quantize.rounding import CLIPS, round_to_nearest

TEXTS = 32  # samples that the outputs are compared on


def most_sensitive(graph, tensors, samples, share):
    """The matrices that are worth twice as many bits, within a budget of bytes.

    Each is rounded to int4 by itself; what that changes in the outputs, a byte of the matrix, is
    its rank. Those of a BERT differ by a factor of a hundred: most of the error of all comes from
    the values and outputs of the last layers' attention and from some feed-forward matrices.

    Args:
        graph: a float32 `Graph`; left as it is.
        tensors: the matrices to choose from, constants `(outputs, features)`.
        samples: list of dicts of arrays by input name, as in `record`; `TEXTS` of them are used.
        share: float, bytes to spend, as a part of what all the matrices take in int4.

    Returns:
        Set of tensors.

    Raises:
        ExportError: as `record`.
    """
    matrices = {int(tensor): graph.constant(int(tensor)) for tensor in sorted(tensors)}
    left = share * sum(matrix.size for matrix in matrices.values())
    if left < min((matrix.size for matrix in matrices.values()), default=np.inf):
        return set()
    some = samples[:: max(1, len(samples) // TEXTS)][:TEXTS]
    outputs = [int(t) for t in graph.outputs if graph.dtype(t) == "FLOAT32"]
    wanted = record(graph, outputs, some)
    costs = {}
    for tensor, matrix in matrices.items():
        kept = copy.copy(vars(graph.tensors[tensor]))
        graph.set_constant(tensor, _rounded(matrix))
        try:
            found = record(graph, outputs, some)
        finally:
            vars(graph.tensors[tensor]).update(kept)
            graph.model.buffers.pop()
        costs[tensor] = sum(_difference(found[t], wanted[t]) for t in outputs) / matrix.size
    chosen = set()
    for tensor in sorted(costs, key=costs.get, reverse=True):
        if matrices[tensor].size <= left:
            chosen.add(tensor)
            left -= matrices[tensor].size
    return chosen


def _difference(found, wanted):
    """Mean squared difference of vectors, relative to their squared lengths."""
    lengths = np.maximum(np.square(wanted).sum(axis=1), 1e-12)
    return float((np.square(found - wanted).sum(axis=1) / lengths).mean())


def _rounded(matrix):
    """Each row rounded to the nearest of 16 steps, of the size with the least squared error."""
    largest = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-8)
    integers, scales = round_to_nearest(matrix, (largest * (clip / 7) for clip in CLIPS))
    return integers * scales
