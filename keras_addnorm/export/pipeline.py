"""The steps that every export takes: trace, write, check, verify, and only then place."""

import dataclasses
import pathlib
import time
from collections.abc import Callable

import keras

from keras_addnorm import files
from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.inspect import read_contents
from keras_addnorm.export.recipes import RECIPES
from keras_addnorm.export.report import ExportReport, companion, versions
from keras_addnorm.export.runtime import open_model
from keras_addnorm.export.samples import longest_sequence, make_samples
from keras_addnorm.export.signature import (
    check_sizes,
    input_names,
    make_exportable,
    output_dict,
    prepare,
)
from keras_addnorm.export.tokenizer import SUFFIX, describe_tokenizer
from keras_addnorm.export.verify import verify as run_verification

# What is written beside a model.
COMPANIONS = (".report.json", SUFFIX)

# Lengths that a model of any length is verified at; both are cut to what the model takes.
LENGTHS = (16, 64)


@dataclasses.dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        name: as the report shows it.
        write: `(exportable, recipe, path) -> None`.
        open: `(path) -> runnable` with `inputs`, `outputs` and `partitions`.
        inspect: `(path, exportable, recipe) -> (operators, weight_types)`; raises ExportError on
            what must not be shipped.
    """

    name: str
    write: Callable
    open: Callable
    inspect: Callable


def run_export(
    model, path, form, recipe, *, sequence_length, batch_size, verify, overwrite, progress
):
    """Exports `model` to `path`; see `to_tflite` and `to_saved_model`."""
    started = time.perf_counter()
    announce = progress or (lambda step: None)
    path = pathlib.Path(path)
    files.refuse_existing([path, *(companion(path, suffix) for suffix in COMPANIONS)], overwrite)
    functional = prepare(model)
    check_sizes(batch_size, sequence_length)
    _check_length(functional, sequence_length)
    announce("tracing the model")
    exportable = make_exportable(functional, batch_size, sequence_length)
    with files.staging(path) as folder:
        draft = folder / path.name
        announce(f"writing {recipe.name} {form.name}")
        form.write(exportable, recipe, draft)
        operators, weight_types = form.inspect(draft, exportable, recipe)
        announce("loading the result")
        exported = form.open(draft)
        differences = {}
        if verify:
            announce("comparing it with the Keras model")
            samples = make_samples(model, exportable.inputs, _lengths(model, sequence_length))
            reference = keras_function(exportable.model)
            differences = run_verification(reference, exported, samples, recipe)
        size, digest = files.size_and_digest(draft)
        report = ExportReport(
            path=str(path),
            format=form.name,
            quantization=recipe.name,
            bytes=size,
            sha256=digest,
            inputs=exported.inputs,
            outputs=exported.outputs,
            verification=differences,
            operators=operators,
            weight_types=weight_types,
            xnnpack_partitions=exported.partitions,
            tokenizer=describe_tokenizer(model, path),
            seconds=round(time.perf_counter() - started, 2),
            versions=versions(),
        )
        _place_all(model, report, draft, path)
    return report


def _check_length(model, sequence_length):
    longest = longest_sequence(model)
    is_open = any(None in tensor.shape[1:] for tensor in keras.tree.flatten(model.input))
    if is_open and sequence_length and longest and sequence_length > longest:
        raise ValueError(
            f"`sequence_length` must be at most {longest}, the longest sequence of the model. "
            f"Received: sequence_length={sequence_length}. Pass sequence_length={longest} or less."
        )


def _place_all(model, report, draft, path):
    notes = {".report.json": report.to_json()}
    if report.tokenizer is not None:
        notes[SUFFIX] = model.preprocessor.tokenizer.to_json()
    moves = [(draft, path)]
    for suffix in COMPANIONS:  # One that is not written anew would belong to the earlier model.
        source = None
        if suffix in notes:
            source = draft.parent / f"new{suffix}"
            source.write_text(notes[suffix], encoding="utf-8")
        moves.append((source, companion(path, suffix)))
    files.place_all(moves)


def verify_file(model, path, progress=None):
    """Compares an exported file with the Keras model it should be, on real-looking inputs.

    Args:
        model: the Keras model.
        path: a .tflite file or a SavedModel directory.
        progress: function of a step's name, called as each step starts.

    Returns:
        `(recipe, differences)`: the `Recipe` whose tolerance counts, told from the dtypes of the
        file's weights, and a dict of `OutputDifference` by output name.

    Raises:
        ExportError: if the file cannot be run, or takes other inputs than the model.
        VerificationError: if it is not the same model within the recipe's tolerance.
    """
    announce = progress or (lambda step: None)
    announce(f"loading {path}")
    exported = open_model(path)
    model = prepare(model)
    expected, received = set(input_names(model).values()), {s.name for s in exported.inputs}
    if expected != received:
        raise ExportError(
            f"{path} takes the inputs {sorted(received)}, the model {sorted(expected)}: they are "
            "different models. Compare the file with the model that it was exported from."
        )
    recipe = RECIPES["float32"]
    if pathlib.Path(path).is_file():
        types = read_contents(path).weight_types
        recipe = next((r for r in RECIPES.values() if r.weight_dtype in types), recipe)
    announce("comparing it with the Keras model")
    length = next((s.shape[1] for s in exported.inputs if len(s.shape) > 1), None)
    samples = make_samples(model, exported.inputs, _lengths(model, length))
    return recipe, run_verification(keras_function(model), exported, samples, recipe)


def _lengths(model, sequence_length):
    if sequence_length is not None:
        return (sequence_length,)
    longest = longest_sequence(model) or max(LENGTHS)
    return sorted({min(length, longest) for length in LENGTHS})


def keras_function(model):
    """A Keras model as a function from arrays by input name to arrays by output name."""
    names = input_names(model)

    def run(sample):
        tensors = {old: keras.ops.convert_to_tensor(sample[new]) for old, new in names.items()}
        structure = keras.tree.map_structure(lambda t: tensors[t.name], model.input)
        outputs = output_dict(model, model(structure, training=False))
        return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}

    return run
