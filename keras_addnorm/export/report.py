"""What an export reports, on screen and in `<name>.report.json`."""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform

MAX_REPORT_BYTES = 2**20

VERSIONS = (
    *("keras_addnorm", "keras", "keras-hub", "tensorflow"),
    *("ai-edge-litert", "tokenizers", "numpy"),
)


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """The record of one export.

    Attributes:
        path: where the model is.
        format: `"tflite"` or `"saved_model"`.
        quantization: name of the recipe.
        bytes, sha256: size and digest of the file, or of all files of the directory.
        inputs, outputs: lists of `TensorSpec`.
        verification: dict of `OutputDifference` by output name; empty if not verified.
        operators: count by TFLite operator; empty for a SavedModel.
        weight_types: bytes of constants by dtype; empty for a SavedModel.
        xnnpack_partitions: int, or None for a SavedModel.
        folded: how often each rule of `fold` was applied, by its name.
        tokenizer: dict with the tokenizer's file name and its settings, or None.
        seconds: how long the export took.
        versions: dict of package versions, Python and machine.
        text: of a SavedModel: dict of `signatures` (names), `no_text_because` (None, or why none
            of them takes strings) and, where verified, `texts` (how many had the tokenizer's ids)
            and `verification` (an `OutputDifference` by output name); else None.
    """

    path: str
    format: str
    quantization: str
    bytes: int
    sha256: str
    inputs: list
    outputs: list
    verification: dict
    operators: dict
    weight_types: dict
    xnnpack_partitions: int | None
    folded: dict
    tokenizer: dict | None
    seconds: float
    versions: dict
    text: dict | None = None

    def to_json(self):
        """The report as a JSON text; the path is reduced to the file's name."""
        record = dataclasses.asdict(self)
        record["path"] = pathlib.Path(self.path).name
        return json.dumps(record, indent=2) + "\n"


def versions():
    """Versions of what an export depends on."""
    found = {name: importlib.metadata.version(name) for name in VERSIONS}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}


def companion(path, suffix):
    """`<name><suffix>` beside a model: `m.tflite.report.json` for `m.tflite`.

    The whole name, so that `m.tflite` and the SavedModel `m` do not share their reports.
    """
    path = pathlib.Path(path)
    return path.parent / (path.name + suffix)


def report_of(path):
    """What the report beside a model says, as a dict; empty where there is no readable one."""
    report = companion(path, ".report.json")
    try:
        if report.stat().st_size > MAX_REPORT_BYTES:
            return {}
        record = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
