"""Rounding weights so that their errors cancel on real inputs (QuantEase, arXiv 2309.01885).

ai-edge-quantizer, the converter and the runtime round every weight to the nearest step. With 16
steps that error is a tenth of the weight; what counts is the error of the products, and that is
far smaller where the weights' errors cancel on real inputs. Taking one weight after another to the
value that is best beside all the others finds smaller errors than one pass that spreads them
(GPTQ, 2210.17323), and needs no inverse of the moments.
"""

import numpy as np

# Added to the diagonal, of its mean. A hundredth, as others take it, is right for texts of the very
# kind that was sampled; what some thousand tokens say of 1536 features misleads on any others.
DAMPING = 1.0
# Largest weight that a row's steps reach, of its largest one.
CLIPS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SWEEPS = 12  # over all the weights, at most
SETTLED = 0.003  # the part of the weights that a sweep changes, under which none follows
PANEL = 64  # columns whose changes are passed on at once


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
        clips: floats to choose a row's first scales from.
        round_scales: function of scales, how they are stored; None for float32.

    Returns:
        `(integers, scales)`: int8 `(outputs, features)` within [-2^(bits-1), 2^(bits-1) - 1], and
        float32 `(outputs, features / block)`.
    """
    rows, columns = weights.shape
    block, moments = block or columns, moments.astype("float32")
    largest = np.abs(weights.reshape(rows, -1, block)).max(axis=2)
    best = None
    for clip in clips:
        scales = _stored(largest * (clip / (2 ** (bits - 1) - 1)), round_scales)
        integers = _rounded(weights / np.repeat(scales, block, axis=1), bits)
        errors = product_errors(weights - integers * np.repeat(scales, block, axis=1), moments)
        best = _better_rows(best, (integers, scales, errors))
    integers, scales, _ = best
    for _ in range(SWEEPS):
        scales = _stored(_fitted_scales(weights, integers, scales, moments), round_scales)
        changes = _sweep(weights, integers, np.repeat(scales, block, axis=1), moments, bits)
        if changes < SETTLED * weights.size:
            break
    return integers.astype("int8"), scales


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
        integers = _rounded(rows / scales, 4).astype("int8")
        errors = np.square(rows - integers * scales).sum(axis=1)
        best = _better_rows(best, (integers, scales, errors))
    return best[0], best[1]


def product_errors(errors, moments):
    """Mean squared errors of each row's products, `(outputs,)`, for errors of its weights."""
    return np.einsum("ij,ij->i", errors @ moments.astype("float32"), errors)


def _stored(scales, round_scales):
    scales = np.maximum(scales, 1e-8).astype("float32")
    return scales if round_scales is None else round_scales(scales)


def _rounded(weights, bits):
    return np.clip(np.rint(weights), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _better_rows(best, found):
    if best is None:
        return found
    better = found[2] < best[2]
    return tuple(
        np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        for old, new in zip(best, found, strict=True)
    )


def _fitted_scales(weights, integers, scales, moments):
    """The scales `(outputs, blocks)` with the least error of products for these integers.

    For each row, where Q is its integers, a column a block:  (Q^T H Q) scales = Q^T H weights
    """
    rows, blocks = scales.shape
    parts = integers.reshape(rows, blocks, -1)
    wanted = np.einsum("rbi,rbi->rb", parts, (weights @ moments).reshape(parts.shape))
    products = np.empty((rows, blocks, blocks), "float32")
    for block, columns in enumerate(np.split(moments, blocks)):
        reached = (parts[:, block] @ columns).reshape(parts.shape)
        products[:, block] = np.einsum("rbi,rbi->rb", parts, reached)
    diagonal = np.arange(blocks)
    products[:, diagonal, diagonal] += 1e-30  # blocks of zeros
    fitted = np.linalg.solve(products, wanted[..., None])[..., 0]
    return np.where(fitted > 0, fitted, scales)


def _sweep(weights, integers, steps, moments, bits):
    """Takes each column of integers to its best values beside the others; returns how many change.

    The error of a row's products is least in one weight where that has changed by
    (error H)_j / H_jj, and nearest to it where it is rounded.
    """
    gradients, changes = (weights - integers * steps) @ moments, 0
    for start in range(0, weights.shape[1], PANEL):
        panel = slice(start, start + PANEL)
        inner, left = moments[panel, panel], gradients[:, panel].copy()
        moved = np.empty_like(left)
        for j in range(left.shape[1]):
            column = start + j
            best = integers[:, column] + left[:, j] / (inner[j, j] * steps[:, column])
            best = _rounded(best, bits)
            moved[:, j] = (best - integers[:, column]) * steps[:, column]
            changes += np.count_nonzero(moved[:, j])
            integers[:, column] = best
            left -= np.outer(moved[:, j], inner[j])
        gradients[:, panel.stop :] -= moved @ moments[panel, panel.stop :]
    return changes
