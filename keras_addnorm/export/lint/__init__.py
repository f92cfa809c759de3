"""What in a .tflite file will hurt, and where: in a delegate, in half precision, in an old runtime.

A rule is one entry of `RULES`; nothing else knows about it.
"""

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.lint import gpu, half_precision, operators, quantization, versions
from keras_addnorm.export.lint.load import load
from keras_addnorm.export.lint.rules import SEVERITIES, Finding, Subject
from keras_addnorm.export.lint.versions import lowest_runtime
from keras_addnorm.export.reader import read_model

__all__ = ["RULES", "Finding", "lint_file", "lowest_runtime"]

RULES = (
    *operators.RULES,
    *gpu.RULES,
    *half_precision.RULES,
    *quantization.RULES,
    *versions.RULES,
)


def _hits(rule, subject):
    try:
        return list(rule.find(subject))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        # Rules count on the inputs that the schema's operators have; a sound file has them.
        raise ExportError(
            f"{subject.model.path} is a broken TFLite model: an operator lacks what it must have "
            f"({rule.slug}: {error})."
        ) from error


def lint_file(path):
    """Looks for what will hurt in a .tflite file, ours or any other.

    The file is read, and loaded in LiteRT in a process of its own; it is not run.

    Args:
        path: the file.

    Returns:
        List of `Finding`s, errors first, then warnings, then notes. Equal ones are one `Finding`
        with a count and the layers they were found in.

    Raises:
        ExportError: if it is no TFLite model, or a broken or hostile one.

    Example:

    ```python
    for finding in keras_addnorm.export.lint_file("minilm.tflite"):
        print(finding.severity, finding.rule, finding.message, finding.fix)
    ```
    """
    model = read_model(path)
    subject = Subject(model, load(model))
    if "not a valid Flatbuffer" in (subject.loaded.error or ""):
        raise ExportError(f"{path} is a broken TFLite model: {subject.loaded.error}")
    groups = {}
    for rule in RULES:
        for hit in _hits(rule, subject):
            key = (
                rule.slug,
                hit.severity or rule.severity,
                hit.message,
                hit.cost or rule.cost,
                hit.fix or rule.fix,
            )
            groups.setdefault(key, []).append(hit.layer)
    findings = [
        Finding(
            rule=slug,
            severity=severity,
            message=message,
            count=len(layers),
            layers=tuple(dict.fromkeys(layer for layer in layers if layer is not None)),
            cost=cost,
            fix=fix,
        )
        for (slug, severity, message, cost, fix), layers in groups.items()
    ]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
