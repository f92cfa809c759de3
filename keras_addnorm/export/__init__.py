"""Export to SavedModel and TFLite (LiteRT), verified before a file gets its name."""

from keras_addnorm.export.bundle import to_text_bundle
from keras_addnorm.export.errors import ExportError, VerificationError
from keras_addnorm.export.fold import Folded, fold
from keras_addnorm.export.lint import Finding, lint_file
from keras_addnorm.export.pipeline import verify_file
from keras_addnorm.export.recipes import RECIPES, Recipe
from keras_addnorm.export.report import ExportReport
from keras_addnorm.export.saved_model import to_saved_model
from keras_addnorm.export.tflite import to_tflite
from keras_addnorm.export.timing.bench import BenchReport, Timing, bench

__all__ = [
    "RECIPES",
    "BenchReport",
    "ExportError",
    "ExportReport",
    "Finding",
    "Folded",
    "Recipe",
    "Timing",
    "VerificationError",
    "bench",
    "fold",
    "lint_file",
    "to_saved_model",
    "to_text_bundle",
    "to_tflite",
    "verify_file",
]
