"""Comparing an exported model with the Keras model it came from."""

import dataclasses

import numpy as np

from keras_addnorm.export.errors import VerificationError

# A vector shorter than this, relative to the longest one, has no direction to compare.
TINY = 1e-6


@dataclasses.dataclass(frozen=True)
class OutputDifference:
    """How far one output is from the reference, over unpadded positions only.

    Attributes:
        max_abs_error: largest absolute difference of any value.
        max_scaled_error: the same, each vector's divided by its largest value where that is
            above 1; what a recipe's tolerance counts.
        max_abs_value: largest absolute value of the reference.
        min_cosine, mean_cosine: of the vectors along the last axis.
        vectors: how many vectors were compared.
    """

    max_abs_error: float
    max_scaled_error: float
    max_abs_value: float
    min_cosine: float
    mean_cosine: float
    vectors: int


def compare(reference, actual, padding_mask=None):
    """Compares two arrays of the same shape; see `OutputDifference`.

    Args:
        reference: array `(batch, ..., features)`, or with a batch of 1 for an output that does
            not depend on the inputs' batch.
        actual: array `(batch, ..., features)`.
        padding_mask: `(batch, length)` of 0 and 1, or None. Where the arrays have these two
            leading axes, positions with 0 are left out: their content is not defined.
    """
    reference, actual = np.asarray(reference, "float64"), np.asarray(actual, "float64")
    if reference.shape[1:] == actual.shape[1:] and len(reference) == 1:
        reference = np.broadcast_to(reference, actual.shape)  # a position bias, for any batch
    if reference.shape != actual.shape:
        raise VerificationError(
            f"An output has shape {actual.shape}, but the Keras model's has {reference.shape}."
        )
    if padding_mask is not None and reference.ndim > 2:
        if reference.shape[:2] == np.shape(padding_mask):
            keep = np.asarray(padding_mask, bool)
            reference, actual = reference[keep], actual[keep]
    for whose, values in (("Keras model", reference), ("exported model", actual)):
        if not np.isfinite(values).all():
            raise VerificationError(
                f"An output of the {whose} holds NaN or infinity for the inputs it was verified "
                "with, so it proves nothing."
            )
    if not reference.size:
        raise VerificationError("An output is empty, so it proves nothing.")
    reference = reference.reshape(-1, reference.shape[-1] if reference.ndim > 1 else 1)
    actual = actual.reshape(reference.shape)
    error = np.abs(reference - actual)
    scale = np.maximum(np.abs(reference).max(axis=-1), 1.0)
    lengths = np.linalg.norm(reference, axis=-1), np.linalg.norm(actual, axis=-1)
    floor = TINY * max(lengths[0].max(), 1e-30)
    lengths = np.maximum(lengths, floor)
    cosine = (reference * actual).sum(-1) / (lengths[0] * lengths[1])
    cosine = np.where(lengths[0] <= floor, 1.0, cosine)
    return OutputDifference(
        max_abs_error=float(error.max()),
        max_scaled_error=float((error.max(axis=-1) / scale).max()),
        max_abs_value=float(np.abs(reference).max()),
        min_cosine=float(cosine.min()),
        mean_cosine=float(cosine.mean()),
        vectors=len(cosine),
    )


def merge(differences):
    """The difference over several comparisons of the same output."""
    vectors = sum(d.vectors for d in differences)
    return OutputDifference(
        max_abs_error=max(d.max_abs_error for d in differences),
        max_scaled_error=max(d.max_scaled_error for d in differences),
        max_abs_value=max(d.max_abs_value for d in differences),
        min_cosine=min(d.min_cosine for d in differences),
        mean_cosine=sum(d.mean_cosine * d.vectors for d in differences) / vectors,
        vectors=vectors,
    )


def verify(reference, actual, samples, recipe):
    """Runs both models on all samples and holds their outputs against a recipe's tolerance.

    Args:
        reference, actual: functions of a dict of arrays that return a dict of arrays.
        samples: list of such dicts.
        recipe: the `Recipe` whose tolerance counts.

    Returns:
        Dict of `OutputDifference` by output name.

    Raises:
        VerificationError: naming the outputs that are too far off.
    """
    found = {}
    for sample in samples:
        expected, received = reference(sample), actual(sample)
        if expected.keys() != received.keys():
            raise VerificationError(
                f"The exported model returns {sorted(received)}, not {sorted(expected)}."
            )
        for name in expected:
            difference = compare(expected[name], received[name], sample.get("padding_mask"))
            found.setdefault(name, []).append(difference)
    differences = {name: merge(values) for name, values in found.items()}
    problems = [
        f"{name}: {problem}"
        for name, difference in differences.items()
        for problem in _problems(difference, recipe)
    ]
    if problems:
        raise VerificationError(
            f"The exported model is not the same model within the tolerance of {recipe.name}: "
            f"{'; '.join(problems)}. Nothing was written."
        )
    return differences


def _problems(difference, recipe):
    if not difference.max_scaled_error <= recipe.max_error:
        yield f"max abs error {difference.max_scaled_error:.2e} is above {recipe.max_error:.2e}"
    if not difference.min_cosine >= recipe.min_cosine:
        yield f"cosine {difference.min_cosine:.6f} is below {recipe.min_cosine}"
