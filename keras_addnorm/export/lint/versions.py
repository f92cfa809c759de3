"""Rules about the runtimes that can load a file: each has a newest version of each operator."""

from keras_addnorm.export.lint.rules import Hit, Rule, layer_of
from keras_addnorm.export.reader import read_model
from keras_addnorm.export.runtimes import OLDEST, as_numbers, first_runtime, newest


def lowest_runtime(path):
    """The oldest TensorFlow Lite runtime that has all operators of a .tflite file.

    Returns:
        String such as `"2.17"`; `"2.0"` also stands for older ones. Operators and versions that
        are not in `runtimes.TABLE` do not count.

    Raises:
        ExportError: if it is no TFLite model.
    """
    return _lowest(read_model(path))


def _lowest(model):
    operators = (op for graph in model.graphs for op in graph.operators)
    return newest(first_runtime(op.name, op.version) for op in operators)


def _lowest_runtime(subject):
    lowest = _lowest(subject.model)
    for _, op in subject.operators:
        if lowest != OLDEST and first_runtime(op.name, op.version) == lowest:
            yield Hit(f"needs TFLite {lowest}: {op.name} version {op.version}")


def _unknown_version(subject):
    for _, op in subject.operators:
        if first_runtime(op.name, op.version) is None:
            yield Hit(f"{op.name} version {op.version}", layer_of(op))


def _metadata(subject):
    data = subject.model.metadata.get("min_runtime_version")
    written = "" if data is None else bytes(data).rstrip(b"\0").decode(errors="replace")
    numbers = written.split(".")
    if not all(part.isdecimal() for part in numbers):
        return
    lowest = _lowest(subject.model)
    if lowest != OLDEST and as_numbers(written)[:2] < as_numbers(lowest)[:2]:
        yield Hit(f"min_runtime_version says {written}, the operators need {lowest}")


RULES = (
    Rule(
        "lowest-runtime",
        "note",
        "Older runtimes, such as one that is compiled into an application, refuse the file.",
        "Ship a current LiteRT with the application, or convert with an older TensorFlow.",
        _lowest_runtime,
    ),
    Rule(
        "unknown-version",
        "warning",
        "The version is newer than any that this package knows of; most runtimes will refuse it.",
        "Convert with a released TensorFlow or LiteRT.",
        _unknown_version,
    ),
    Rule(
        "wrong-metadata",
        "warning",
        "Applications that trust the file's metadata pass it to a runtime that refuses it.",
        "Convert it again; tools that change a file must write the version anew.",
        _metadata,
    ),
)
