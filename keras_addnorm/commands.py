"""The commands of `keras-addnorm`: each returns a function that shows its result on a console.

What that function returns is the exit code; None stands for 0.
"""

import collections
import dataclasses
import json
import pathlib
import signal
import threading

from keras_addnorm import demo as page
from keras_addnorm.export import bench as benchmark
from keras_addnorm.export import (
    lint_file,
    to_saved_model,
    to_text_bundle,
    to_tflite,
    verify_file,
)
from keras_addnorm.export.describe import describe
from keras_addnorm.export.embed import embed_texts
from keras_addnorm.export.lint import lowest_runtime
from keras_addnorm.export.metadata import FIELDS
from keras_addnorm.export.recipes import get_recipe
from keras_addnorm.export.tables import (
    differences_table,
    file_facts,
    file_table,
    findings_table,
    model_table,
    presets_table,
    report_table,
    saved_table,
    similarity_table,
)
from keras_addnorm.export.timing.views import bench_table, check_plot, labels, plot, profile_table
from keras_addnorm.files import refuse_existing, size_and_digest
from keras_addnorm.text import Embedder
from keras_addnorm.text.bundle import MANIFEST, VECTORS
from keras_addnorm.zoo import load
from keras_addnorm.zoo.load import from_preset
from keras_addnorm.zoo.registry import license_of, preset_facts
from keras_addnorm.zoo.save import save
from keras_addnorm.zoo.tasks import TASKS


def export(args, progress):
    """`keras-addnorm export`."""
    path = pathlib.Path(args.out)
    if path.suffix.startswith(".tf") and path.suffix != ".tflite":
        raise ValueError(
            f"OUT ends in .tflite, or is the directory of a SavedModel. Received: {args.out}. "
            "Correct the ending."
        )
    if path.suffix != ".tflite":
        _refuse_tflite_options(args)
    options = _export_options(args, args.quantization)
    refuse_existing([path], args.overwrite)
    progress(f"loading {args.source}")
    model = load(args.source)
    common = {"overwrite": args.overwrite, "progress": progress}
    if path.suffix == ".tflite":
        report = to_tflite(model, path, **options, **common)
    else:
        length = _sequence_length(args.sequence_length)
        report = to_saved_model(model, path, **length, **common)
    return lambda console: console.print(report_table(report))


def bundle(args, progress):
    """`keras-addnorm bundle`."""
    options = _export_options(args, args.quantization or "dynamic_int8")
    if args.task not in ("auto", "embed", "classify"):
        raise ValueError(
            f"--task is one of auto, embed, classify. Received: --task {args.task}. Correct it."
        )
    if args.source.endswith(".keras") and args.task != "auto":
        raise ValueError(
            "A .keras file has the task it was saved with. "
            f"Received: --task {args.task}. Leave it out."
        )
    refuse_existing([args.out], args.overwrite, marker=VECTORS)
    progress(f"loading {args.source}")
    is_auto = args.task == "auto"
    model = load(args.source) if is_auto else from_preset(args.source, task=args.task)
    report = to_text_bundle(
        model,
        args.out,
        license=args.license or license_of(args.source),
        overwrite=args.overwrite,
        progress=progress,
        **options,
    )
    return lambda console: console.print(report_table(report))


def _export_options(args, quantization):
    """Arguments of `to_tflite` by what both `export` and `bundle` take."""
    lengths = args.lengths and tuple(_whole("--lengths", n) for n in args.lengths.split(","))
    return {
        "quantization": get_recipe(quantization).name,
        "lengths": lengths,
        "drop_inputs": tuple(args.drop_input),
        "calibration": args.calibration,
        "metadata": _metadata(args),
        **_sequence_length(args.sequence_length),
    }


def _metadata(args):
    """The argument `metadata` of `to_tflite`."""
    if args.metadata_field and not args.metadata:
        raise ValueError(
            "--metadata-field is for the metadata of a file. Received: it, without --metadata. "
            "Pass both."
        )
    pairs = [text.partition("=") for text in args.metadata_field]
    wrong = [name for name, equals, _ in pairs if not equals or name not in FIELDS]
    if wrong:
        raise ValueError(
            f"--metadata-field is NAME=TEXT, with one of the names {', '.join(FIELDS)}. "
            f"Received: {wrong[0]!r}. Pass for instance license=Apache-2.0."
        )
    return args.metadata and ({name: text for name, _, text in pairs} or True)


def _sequence_length(text):
    if text is None:
        return {}
    if text == "any":
        return {"sequence_length": None}
    return {"sequence_length": _whole("--sequence-length", text, " or 'any'")}


def _whole(option, text, also=""):
    if not text.isdecimal() or not 1 <= len(text) < 10 or int(text) < 1:
        raise ValueError(
            f"{option} must be a positive whole number{also}. "
            f"Received: {text!r}. Pass for instance 128."
        )
    return int(text)


def _refuse_tflite_options(args):
    if args.quantization not in (None, "float32"):
        raise ValueError(
            f"A SavedModel is float32. Received: --quantization {args.quantization}. "
            "End OUT in .tflite to quantize."
        )
    for name in ("lengths", "drop_input", "calibration", "metadata", "metadata_field"):
        if getattr(args, name):
            raise ValueError(
                f"--{name.replace('_', '-')} is an option of a .tflite. "
                f"Received: it, for {args.out}. End OUT in .tflite, or leave it out."
            )


def verify(args, progress):
    """`keras-addnorm verify`."""
    progress(f"loading {args.against}")
    model = load(args.against)
    recipe, differences = verify_file(model, args.model, progress)

    def show(console):
        console.print(differences_table(differences))
        console.print(
            f"{args.model} is the same model as {args.against}, within the tolerance of "
            f"{recipe.name}.",
            soft_wrap=True,
        )

    return show


def embed(args, progress):
    """`keras-addnorm embed`."""
    if len(args.texts) < 2:
        raise ValueError("Similarity needs two texts or more. Received: 1. Pass another TEXT.")
    progress(f"embedding {len(args.texts)} texts with {args.model}")
    if (pathlib.Path(args.model) / MANIFEST).is_file():
        embedder = Embedder(args.model)
        embeddings, cut = embedder.embed(args.texts), embedder.cut(args.texts)
    else:
        embeddings, cut = embed_texts(args.model, args.texts)

    def show(console):
        console.print(similarity_table(args.texts, {"cosine": embeddings}))
        for index in cut:
            console.print(f"Text {index + 1} is longer than the model takes and was cut.")

    return show


def bench(args, progress):
    """`keras-addnorm bench`."""
    if args.plot is not None:
        check_plot(args.plot)
        refuse_existing([args.plot], args.overwrite)
    report = benchmark(
        args.files,
        against=args.against,
        lengths=_lengths(args.lengths),
        num_threads=args.threads,
        runs=args.runs,
        padding=args.padding,
        profile=args.profile,
        progress=progress,
    )
    if args.plot is not None:
        progress(f"drawing {args.plot}")
        plot(report, args.plot)

    def show(console):
        if args.json:
            console.print(report.to_json(), soft_wrap=True)
            return
        console.print(bench_table(report))
        names = labels(report.bytes)
        for timing in report.timings:
            if timing.profile is not None:
                console.print(profile_table(timing, names[timing.file]))

    return show


def _lengths(text):
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(
            "--lengths must be positive whole numbers with commas between them. "
            f"Received: {text!r}. Pass for instance 16,64,128."
        )
    return [int(part) for part in parts]


def info(args, progress):
    """`keras-addnorm info`."""
    path = pathlib.Path(args.model)
    if path.suffix == ".tflite" or (path / "saved_model.pb").is_file():
        progress(f"reading {path}")
        facts = file_facts(path)
        return _show(args, facts, file_table(path, facts))
    progress(f"loading {args.model}")
    description = describe(load(args.model), progress=progress)
    return _show(args, dataclasses.asdict(description), model_table(description))


def lint(args, progress):
    """`keras-addnorm lint`; the exit code is 1 where no shipped runtime runs the file."""
    progress(f"looking into {args.model}")
    findings = lint_file(args.model)
    severities = collections.Counter(finding.severity for finding in findings)
    errors, warnings = severities["error"], severities["warning"]
    runtime = lowest_runtime(args.model)
    facts = {
        "path": args.model,
        "errors": errors,
        "warnings": warnings,
        "lowest_runtime": runtime,
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }

    def show(console):
        _show(args, facts, findings_table(args.model, findings))(console)
        if not args.json:
            console.print(
                f"{_count(errors, 'error')}, {_count(warnings, 'warning')}, "
                f"lowest runtime: TFLite {runtime}"
            )
        return 1 if errors else 0

    return show


def _count(number, noun):
    return f"{number} {noun}" + "s" * (number != 1)


def demo(args, progress):
    """`keras-addnorm demo`; ends with Ctrl-C."""
    server = page.make_server(args.folder, args.port)
    try:
        page.prepare(args.folder, progress)
    except BaseException:
        server.server_close()
        raise

    def stop(*_):
        threading.Thread(target=server.shutdown).start()  # It waits for this thread's loop.

    def show(console):
        # A KeyboardInterrupt that is raised while JAX's callback collects garbage is lost.
        before = signal.signal(signal.SIGINT, stop)
        try:
            with server:
                console.print(f"http://{page.HOST}:{server.server_port}/", soft_wrap=True)
                console.print("Ctrl-C ends it.")
                server.serve_forever()
        finally:
            signal.signal(signal.SIGINT, before)

    return show


def list_presets(args, progress):
    """`keras-addnorm list`."""
    facts = preset_facts(args.pattern, args.family)
    if not facts:
        raise ValueError(
            f"No preset is called {args.pattern!r}. Run `keras-addnorm list` to see them all, or "
            "pass a pattern such as 'bert_*'."
        )
    return _show(args, facts, presets_table(facts))


def import_checkpoint(args, progress):
    """`keras-addnorm import`."""
    tasks = {"auto": "auto", "encoder": None, **{task: task for task in TASKS}}
    if args.task not in tasks:
        raise ValueError(
            f"--task is one of {', '.join(tasks)}. Received: --task {args.task}. Correct it."
        )
    path = pathlib.Path(args.out)
    refuse_existing([path], args.overwrite, marker="config.json")
    progress(f"importing {args.source}")
    if args.source.endswith(".keras"):
        if args.image_size is not None:
            raise ValueError(
                "A .keras file has the image size it was saved with. "
                f"Received: --image-size {args.image_size}. Leave it out."
            )
        model = load(args.source)
    else:
        model = from_preset(args.source, task=tasks[args.task], image_size=args.image_size)
    progress(f"saving {path}")
    save(model, path, args.overwrite)
    size, digest = size_and_digest(path)
    facts = {
        "path": str(path),
        "class": type(model).__name__,
        "parameters": model.count_params(),
        "bytes": size,
        "sha256": digest,
    }
    return _show(args, facts, saved_table(facts))


def _show(args, facts, table):
    """Shows facts as JSON where that is asked for, else the table."""
    if args.json:
        return lambda console: console.print(json.dumps(facts, indent=2), soft_wrap=True)
    return lambda console: console.print(table)
