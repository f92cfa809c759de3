"""Rounding weights so that the errors of one column are made good by the next (GPTQ, 2210.17323).

ai-edge-quantizer, the converter and the runtime round every weight to the nearest step. With 16
steps that error is a tenth of the weight; what counts is the error of the products, and that is
far smaller where the columns' errors cancel on real inputs.
"""

import numpy as np

# Added to the diagonal, of its mean. A hundredth, as others take it, is right for texts of the very
# kind that was sampled; what some thousand tokens say of 1536 features misleads on any others.
DAMPING = 1.0
CLIPS = (0.6, 0.7, 0.8, 0.95)  # largest weight that a row's steps reach, of its largest one
PANEL = 64  # columns whose errors are passed on at once


def second_moments(inputs, damping=DAMPING):
    """Mean of x x^T with damping, float64 `(features, features)`, of inputs around their mean."""
    centred = inputs - inputs.mean(axis=0)
    moments = (centred.T @ centred).astype("float64") / len(inputs)
    moments[np.diag_indices_from(moments)] += damping * max(np.trace(moments) / len(moments), 1e-12)
    return moments


def round_weights(weights, moments, bits=4, block=None, clips=CLIPS, round_scales=None):
    """Rounds a matrix to integers with the least error of its products that is cheap to find.

    Args:
        weights: float32 `(outputs, features)`.
        moments: `second_moments` of its inputs.
        bits: int, 4 or 8.
        block: int, how many columns share a scale; None for whole rows.
        clips: floats to choose from, for each row the one that gives the least error.
        round_scales: function of scales, how they are stored; None for float32.

    Returns:
        `(integers, scales)`: int8 `(outputs, features)` within [-2^(bits-1), 2^(bits-1) - 1], and
        float32 `(outputs, features / block)`.
    """
    # Columns with the largest inputs first: the others are left to make good for them.
    order = np.argsort(-np.diag(moments), kind="stable")
    inverse = np.linalg.inv(moments[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T.astype("float32")
    rows, columns = weights.shape
    block = block or columns
    largest = np.abs(weights.reshape(rows, -1, block)).max(axis=2)
    best = None
    for clip in clips:
        scales = np.maximum(largest * clip / (2 ** (bits - 1) - 1), 1e-8).astype("float32")
        scales = scales if round_scales is None else round_scales(scales)
        steps = np.repeat(scales, block, axis=1)
        integers = _round_columns(weights[:, order], steps[:, order], factor, bits)
        integers = integers[:, np.argsort(order)]
        found = integers, scales, product_errors(weights - integers * steps, moments)
        best = found if best is None else _better_rows(best, found)
    return best[0].astype("int8"), best[1]


def round_to_nearest(rows, candidates):
    """Rounds each row to 16 steps, of that size which gives the least squared error.

    Args:
        rows: float32 `(rows, columns)`.
        candidates: iterable of float32 arrays `(rows, 1)`, sizes of a step.

    Returns:
        `(integers, scales)`: int8 `(rows, columns)` from -8 to 7, and float32 `(rows, 1)`.
    """
    best = None
    for scales in candidates:
        integers = np.clip(np.rint(rows / scales), -8, 7).astype("int8")
        errors = np.square(rows - integers * scales).sum(axis=1, keepdims=True)
        if best is None:
            best = [integers, scales, errors]
            continue
        better = errors < best[2]
        for old, new in zip(best, (integers, scales, errors), strict=True):
            np.copyto(old, new, where=better)
    return best[0], best[1]


def product_errors(errors, moments):
    """Mean squared errors of each row's products, `(outputs,)`, for errors of its weights."""
    return np.einsum("ij,ij->i", errors @ moments.astype("float32"), errors)


def _better_rows(best, found):
    better = found[2] < best[2]
    return tuple(
        np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        for old, new in zip(best, found, strict=True)
    )


def _round_columns(weights, steps, factor, bits):
    """Rounds columns in turn, each time spreading the error over those that are left."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weights, integers = weights.copy(), np.empty_like(weights)
    for start in range(0, weights.shape[1], PANEL):
        stop = min(start + PANEL, weights.shape[1])
        errors = np.empty((len(weights), stop - start), "float32")
        for j in range(start, stop):
            integers[:, j] = np.clip(np.rint(weights[:, j] / steps[:, j]), low, high)
            error = (weights[:, j] - integers[:, j] * steps[:, j]) / factor[j, j]
            weights[:, j + 1 : stop] -= np.outer(error, factor[j, j + 1 : stop])
            errors[:, j - start] = error
        weights[:, stop:] -= errors @ factor[start:stop, stop:]
    return integers
