"""The tokenizer that travels beside an exported model."""

import json

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.report import companion
from keras_addnorm.export.samples import longest_sequence
from keras_addnorm.models import TextEmbedderPreprocessor, Tokenizer
from keras_addnorm.models.tokenizer import MAX_BYTES, ROLES, read

SUFFIX = ".tokenizer.json"


def describe_tokenizer(model, path):
    """What the report says of a model's `Tokenizer`; None where it has none."""
    preprocessor = getattr(model, "preprocessor", None)
    tokenizer = getattr(preprocessor, "tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        return None
    tokens = {role: getattr(tokenizer, role) for role in ROLES}
    longest = longest_sequence(model) or preprocessor.sequence_length
    return {
        "file": companion(path, SUFFIX).name,
        "type": type(tokenizer.tokenizer.model).__name__,
        "pad_token_id": tokenizer.pad_token_id,
        "special_tokens": {role: token for role, token in tokens.items() if token is not None},
        # Longer texts are cut, in Keras and in the exported model alike.
        "sequence_length": min(preprocessor.sequence_length, longest),
    }


def load_preprocessor(path):
    """Rebuilds the preprocessor of an exported model from the report and tokenizer beside it.

    Raises:
        ExportError: if there are none, or they are broken.
    """
    report, tokenizer = companion(path, ".report.json"), companion(path, SUFFIX)
    if not report.is_file() or not tokenizer.is_file():
        raise ExportError(
            f"Text needs {report.name} and {tokenizer.name} beside {path}. They are written when "
            "a model with a preprocessor of keras_addnorm is exported; keep the three together."
        )
    if report.stat().st_size > MAX_BYTES:
        raise ExportError(f"{report.name} is larger than {MAX_BYTES} bytes.")
    try:
        settings = json.loads(report.read_text(encoding="utf-8"))["tokenizer"]
        if settings is None:
            raise ValueError("the model was exported without a tokenizer")
        tokens = {role: settings["special_tokens"].get(role) for role in ROLES}
        return TextEmbedderPreprocessor(
            Tokenizer(read(tokenizer), **tokens), sequence_length=settings["sequence_length"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"{report.name} or {tokenizer.name} is broken: {error}") from error
