"""Quantization recipes of `to_tflite`, one entry each."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is quantized, and how close it must stay to the Keras model.

    Attributes:
        name: what `quantization=` takes and reports show.
        configure: `(tf, converter) -> None`, sets the converter's options.
        weight_dtype: dtype that some tensor of the file must have, or None. The converter leaves
            matrices under 1024 elements as they are, so a tiny model may not be quantized at all.
        max_error: largest allowed absolute error, relative to the largest absolute value of the
            output vector where that is above 1.
        min_cosine: smallest allowed cosine of any output vector.
    """

    name: str
    configure: Callable
    weight_dtype: str | None
    max_error: float
    min_cosine: float


def _float32(tf, converter):
    converter.optimizations = []


def _float16(tf, converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic_int8(tf, converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # float32 sums in another order: a few units in the last place for each of some ten layers.
        Recipe("float32", _float32, None, max_error=1e-4, min_cosine=0.99999),
        # Weights rounded to 11 significant bits: 5e-4 relative each, averaged over a row.
        Recipe("float16", _float16, "FLOAT16", max_error=1e-2, min_cosine=0.999),
        # Weights with one int8 scale a row, activations with one a matrix row at run time.
        Recipe("dynamic_int8", _dynamic_int8, "INT8", max_error=0.2, min_cosine=0.99),
    )
}


def get_recipe(quantization):
    """The `Recipe` named by `quantization`; None means float32.

    Raises:
        ValueError: if there is no such recipe.
    """
    name = "float32" if quantization is None else quantization
    if name not in RECIPES:
        raise ValueError(
            "`quantization` must be None or one of "
            f"{', '.join(map(repr, RECIPES))}. Received: quantization={quantization!r}."
        )
    return RECIPES[name]
