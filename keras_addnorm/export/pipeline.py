"""The steps that every export takes: trace, write, check, verify, and only then place."""

import dataclasses
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np

from keras_addnorm import files
from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.fold import fold
from keras_addnorm.export.inspect import read_contents
from keras_addnorm.export.metadata import ENTRY, PROBABILITIES, Metadata, with_probabilities
from keras_addnorm.export.reader import read_model
from keras_addnorm.export.recipes import RECIPES, Recipe
from keras_addnorm.export.report import ExportReport, companion, report_of, versions
from keras_addnorm.export.runtime import open_model
from keras_addnorm.export.samples import (
    at_length,
    calibration_samples,
    longest_sequence,
    make_samples,
)
from keras_addnorm.export.signature import (
    ADDABLE,
    DROPPABLE,
    check_sizes,
    input_names,
    make_exportable,
    output_dict,
    prepare,
)
from keras_addnorm.export.text_graph.check import verify_texts
from keras_addnorm.export.text_graph.signatures import TextSignatures
from keras_addnorm.export.tokenizer import SUFFIX, describe_tokenizer
from keras_addnorm.export.verify import verify as run_verification

# What is written beside a model.
COMPANIONS = (".report.json", SUFFIX)

# One of so many samples that a file is fitted to is kept for its verification.
HELD_OUT = 8

# Lengths that a model of any length is verified at; both are cut to what the model takes.
LENGTHS = (16, 64)


@dataclasses.dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        name: as the report shows it.
        write: `(exportable, plan, path) -> None`.
        open: `(path) -> runnable` with `inputs`, `outputs` and `partitions`.
        inspect: `(path, exportable, recipe) -> (operators, weight_types)`; raises ExportError on
            what must not be shipped.
        folds: bool, whether constants are folded into kernels first.
    """

    name: str
    write: Callable
    open: Callable
    inspect: Callable
    folds: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is asked of an export.

    Attributes:
        recipe: the `Recipe`.
        sequence_length, batch_size: ints, or None for any.
        lengths: ints, ascending: one signature each; or None for a single one.
        drop_inputs: names of inputs that are left out.
        calibration: what `calibration_samples` takes, or None for `SENTENCES`.
        text: the `TextSignatures` of a SavedModel; None for a .tflite.
        samples: the samples made from it that the recipe looks at, if it looks at any.
        held_out: those that a recipe fitted to samples is verified on.
        metadata: the `Metadata` for MediaPipe, or None.
    """

    recipe: Recipe
    sequence_length: int | None = None
    batch_size: int | None = None
    lengths: tuple | None = None
    drop_inputs: tuple = ()
    calibration: object = None
    text: TextSignatures | None = None
    samples: list = dataclasses.field(default_factory=list)
    held_out: list = dataclasses.field(default_factory=list)
    metadata: Metadata | None = None


def run_export(model, path, form, plan, *, verify, overwrite, progress):
    """Exports `model` to `path`; see `to_tflite` and `to_saved_model`."""
    started = time.perf_counter()
    announce = progress or (lambda step: None)
    path = pathlib.Path(path)
    files.refuse_existing([path, *(companion(path, suffix) for suffix in COMPANIONS)], overwrite)
    functional, plan = _checked(prepare(model), plan)
    announce("tracing the model")
    exportable, folded = _traced(model, functional, form, plan)
    plan = _with_samples(plan, model, exportable.inputs)
    with files.staging(path) as folder:
        draft = folder / path.name
        announce(f"writing {plan.recipe.name} {form.name}")
        form.write(exportable, plan, draft)
        operators, weight_types = form.inspect(draft, exportable, plan.recipe)
        announce("loading the result")
        exported = form.open(draft)
        facts = {"operators": operators, "weight_types": weight_types, "folded": folded}
        facts |= _compared(model, functional, exported, plan, announce if verify else None)
        facts |= {"path": str(path), "tokenizer": describe_tokenizer(model, path)}
        report = _report(draft, form, plan, exported, started, facts)
        if plan.metadata is not None:  # Behind the model, which stays byte for byte what it was.
            plan.metadata.attach(draft, report)
            report = _report(draft, form, plan, form.open(draft), started, facts)
        _place_all(model, report, draft, path)
    return report


def _checked(functional, plan):
    """The model and the plan with what the plan's options make of them.

    Raises:
        ValueError: if an option is nothing that the model, or the recipe, can do.
    """
    recipe = plan.recipe
    if recipe.calibration == "none" and plan.calibration is not None:
        raise ValueError(
            "`calibration` is for recipes that look at sample inputs. Received: a calibration for "
            f"quantization={recipe.name!r}, which looks at none. Leave it out."
        )
    check_sizes(plan.batch_size, plan.sequence_length)
    plan = dataclasses.replace(plan, lengths=check_lengths(functional, plan))
    return functional if plan.metadata is None else with_probabilities(functional), plan


def _traced(model, functional, form, plan):
    """The `Exportable`, and how often each rule was applied where constants were folded."""
    simpler, folded = _folded(functional) if form.folds else (functional, {})
    exportable = make_exportable(
        simpler,
        plan.batch_size,
        plan.sequence_length,
        plan.drop_inputs,
        plan.recipe.mask_constant,
        **_for_clients(model, plan),
    )
    return exportable, folded


def _compared(model, functional, exported, plan, announce):
    """The report's `verification` and `text`; nothing is compared where `announce` is None."""
    text = plan.text and {
        "signatures": sorted(exported.signatures),
        "no_text_because": plan.text.reason,
    }
    if announce is None:
        return {"verification": {}, "text": text}
    announce("comparing it with the Keras model")
    lengths = plan.lengths or _lengths(model, plan.sequence_length)
    samples = plan.held_out or make_samples(model, exported.inputs, lengths)
    reference = keras_function(functional)
    verification = run_verification(reference, exported, samples, plan.recipe)
    if plan.text is not None and plan.text.reason is None:
        announce("comparing what it makes of strings")
        text |= verify_texts(exported, plan.text, reference, plan.recipe)
    return {"verification": verification, "text": text}


def _report(draft, form, plan, exported, started, facts):
    """An `ExportReport` of the file as it is now."""
    size, digest = files.size_and_digest(draft)
    return ExportReport(
        format=form.name,
        quantization=plan.recipe.name,
        bytes=size,
        sha256=digest,
        inputs=exported.inputs,
        outputs=exported.outputs,
        xnnpack_partitions=exported.partitions,
        seconds=round(time.perf_counter() - started, 2),
        versions=versions(),
        **facts,
    )


def _for_clients(model, plan):
    """Arguments of `make_exportable` for clients that pass three inputs and cut no text."""
    if plan.metadata is None:
        return {}
    return {
        "add_inputs": ADDABLE,
        "cut_to": longest_sequence(model) if plan.sequence_length is None else None,
    }


def _folded(model):
    """A model with constants in its kernels, and how often each rule was applied; the model itself
    where it has a layer that cannot be copied."""
    try:
        folded = fold(model)
    except ExportError:
        return model, {}
    return folded.model, {name: count for name, count in folded.rules.items() if count}


def _with_samples(plan, model, inputs):
    """A plan with the samples that its recipe looks at."""
    recipe = plan.recipe
    if recipe.calibration == "none":
        return plan
    if recipe.calibration == "own" and plan.calibration is None:
        raise ValueError(
            f"{recipe.name} is fitted to sample inputs, which must be like those that the model is "
            "for. Received: no `calibration`. Pass the path of a text file with some hundred "
            "texts, a text a line, or a list of them."
        )
    samples = calibration_samples(model, inputs, plan.calibration)
    if recipe.calibration == "default":
        return dataclasses.replace(plan, samples=samples)
    if len(samples) < HELD_OUT:
        raise ValueError(
            f"{recipe.name} keeps one of {HELD_OUT} samples to be verified on. Received: "
            f"{len(samples)} samples as `calibration`. Pass more; some hundred are good."
        )
    held_out = [at_length(x, plan.lengths) for x in samples[HELD_OUT - 1 :: HELD_OUT]]
    fitted = [x for i, x in enumerate(samples) if i % HELD_OUT != HELD_OUT - 1]
    return dataclasses.replace(plan, samples=fitted, held_out=held_out)


def check_lengths(model, plan):
    """The `lengths` of a plan as a tuple, or None.

    Raises:
        ValueError: if they, or its `sequence_length`, are not what the model can take.
    """
    longest = longest_sequence(model)
    is_open = any(None in tensor.shape[1:] for tensor in keras.tree.flatten(model.input))
    if is_open and plan.sequence_length and longest and plan.sequence_length > longest:
        raise ValueError(
            f"`sequence_length` must be at most {longest}, the longest sequence of the model. "
            f"Received: sequence_length={plan.sequence_length}. "
            f"Pass sequence_length={longest} or less."
        )
    if plan.lengths is None:
        return None
    if plan.sequence_length is not None or plan.batch_size != 1 or not is_open:
        raise ValueError(
            "`lengths` makes signatures of a model of any length and batch size 1. Received: "
            f"lengths={plan.lengths}, sequence_length={plan.sequence_length}, "
            f"batch_size={plan.batch_size}. Leave out the other two."
        )
    lengths = tuple(plan.lengths) if isinstance(plan.lengths, (tuple, list)) else (plan.lengths,)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in lengths)
    if not lengths or not whole or len(set(lengths)) < len(lengths):
        raise ValueError(
            "`lengths` must hold different positive ints. "
            f"Received: lengths={plan.lengths!r}. Pass for instance (16, 64, 128)."
        )
    if longest and max(lengths) > longest:
        raise ValueError(
            f"`lengths` must be at most {longest}, the longest sequence of the model. "
            f"Received: lengths={plan.lengths}. Leave out those above."
        )
    return tuple(sorted(lengths))


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
    if [spec.name for spec in exported.outputs] == [PROBABILITIES]:
        model = with_probabilities(model)
    expected, received = set(input_names(model).values()), {s.name for s in exported.inputs}
    if received - expected - _added_inputs(path) or expected - received - DROPPABLE.keys():
        raise ExportError(
            f"{path} takes the inputs {sorted(received)}, the model {sorted(expected)}: they are "
            "different models. Compare the file with the model that it was exported from."
        )
    recipe = _recipe_of(path)
    announce("comparing it with the Keras model")
    lengths = exported.lengths or _lengths(model, None)
    samples = make_samples(model, exported.inputs, lengths)
    return recipe, run_verification(keras_function(model), exported, samples, recipe)


def _added_inputs(path):
    """Names of inputs that a file may have although the model has not: those for MediaPipe."""
    has_metadata = pathlib.Path(path).is_file() and ENTRY in read_model(path).metadata
    return {*ADDABLE} if has_metadata else set()


def _recipe_of(path):
    """The recipe that the report beside a file names; else the loosest of its weights' dtypes."""
    if not pathlib.Path(path).is_file():
        return RECIPES["float32"]
    types = read_contents(path).weight_types
    fitting = [r for r in RECIPES.values() if r.weight_dtype is None or r.weight_dtype in types]
    named = report_of(path).get("quantization")
    loosest = max(fitting, key=lambda recipe: recipe.max_error)
    return next((recipe for recipe in fitting if recipe.name == named), loosest)


def _lengths(model, sequence_length):
    if sequence_length is not None:
        return (sequence_length,)
    longest = longest_sequence(model) or max(LENGTHS)
    return sorted({min(length, longest) for length in LENGTHS})


def keras_function(model):
    """A Keras model as a function from arrays by input name to arrays by output name."""
    names = input_names(model)

    def run(sample):
        tensors = {
            old: keras.ops.convert_to_tensor(_value(sample, new)) for old, new in names.items()
        }
        structure = keras.tree.map_structure(lambda t: tensors[t.name], model.input)
        outputs = output_dict(model, model(structure, training=False))
        return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}

    return run


def _value(sample, name):
    """An input's array; of one that an export left out, what it stands for."""
    return sample[name] if name in sample else np.full_like(sample["token_ids"], DROPPABLE[name])
