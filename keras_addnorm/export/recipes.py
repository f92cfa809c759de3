"""Quantization recipes of `to_tflite`, one entry each.

TensorFlow's converter writes the float32 file, and a recipe edits it: the converter itself gives
an embedding table one scale for all rows, and ai-edge-quantizer leaves the table in float32.
"""

import dataclasses
from collections.abc import Callable

from keras_addnorm.export.graph import MASK_CONSTANT
from keras_addnorm.export.quantize import weights
from keras_addnorm.export.quantize.full_int8 import full_int8
from keras_addnorm.export.quantize.int4 import int4
from keras_addnorm.export.quantize.mixed_int8 import mixed_int8


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is quantized, and how close it must stay to the Keras model.

    Attributes:
        name: what `quantization=` takes and reports show.
        quantize: `(data, samples) -> data` from the bytes of a float32 .tflite file, and sample
            inputs as dicts of arrays, to those of the quantized one; None for float32.
        weight_dtype: dtype that some tensor of the file must have, or None.
        max_error: largest allowed absolute error, relative to the largest absolute value of the
            output vector where that is above 1.
        min_cosine: smallest allowed cosine of any output vector.
        calibration: the samples that `quantize` is given: `"none"`; `"default"`, for which a few
            sentences will do; or `"own"`, which the user must bring, as the file is fitted to them.
            It is then verified on those of them that it was not fitted to.
        mask_constant: float, what is subtracted from masked scores of attention.
    """

    name: str
    quantize: Callable | None
    weight_dtype: str | None
    max_error: float
    min_cosine: float
    calibration: str = "none"
    mask_constant: float = MASK_CONSTANT


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # float32 sums in another order: a few units in the last place for each of some ten layers.
        Recipe("float32", None, None, max_error=1e-4, min_cosine=0.99999),
        # Weights rounded to 11 significant bits: 5e-4 relative each, averaged over a row.
        Recipe(
            "float16",
            lambda data, samples: weights.float16(data),
            "FLOAT16",
            max_error=1e-2,
            min_cosine=0.999,
        ),
        # Weights with one int8 scale a row, activations with one a matrix row at run time.
        Recipe(
            "dynamic_int8",
            weights.dynamic_int8,
            "INT8",
            max_error=0.2,
            min_cosine=0.99,
            calibration="default",
        ),
        # Weights rounded to 1 / 254 of a row's largest value, activations not at all.
        Recipe(
            "weight_only_int8",
            lambda data, samples: weights.weight_only_int8(data),
            "INT8",
            max_error=0.1,
            min_cosine=0.995,
        ),
        # As dynamic_int8, with feed-forward layers and values rounded to ranges seen in samples.
        Recipe("mixed_int8", mixed_int8, "INT8", max_error=0.3, min_cosine=0.98, calibration="own"),
        # Products in int8 and all else in int16, none of it in floats: for fixed lengths.
        Recipe("full_int8", full_int8, "INT8", max_error=0.5, min_cosine=0.95, calibration="own"),
        # 15 steps a row instead of 255 in five of six matrices, fitted to samples.
        Recipe("int4", int4, "INT4", max_error=1.0, min_cosine=0.9, calibration="own"),
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
