"""The vocabulary that travels beside an exported model."""

import json

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.report import companion
from keras_addnorm.export.samples import longest_sequence

MAX_BYTES = 256 * 2**20


def describe_tokenizer(model, path):
    """Settings of a model's WordPiece tokenizer, for the report; None where it has none."""
    preprocessor = getattr(model, "preprocessor", None)
    tokenizer = getattr(preprocessor, "tokenizer", None)
    if tokenizer is None or not hasattr(tokenizer, "strip_accents"):
        return None
    return {
        "type": "WordPiece",
        "lowercase": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "vocabulary": companion(path, ".vocab.txt").name,
        # Longer texts are cut, in Keras and in the exported model alike.
        "sequence_length": min(
            preprocessor.sequence_length, longest_sequence(model) or preprocessor.sequence_length
        ),
    }


def load_preprocessor(path):
    """Rebuilds the preprocessor of an exported model from the report and vocabulary beside it.

    Raises:
        ExportError: if there are none, or they are broken.
    """
    from keras_hub.models import BertTokenizer

    from keras_addnorm.models import TextEmbedderPreprocessor

    report = companion(path, ".report.json")
    vocabulary = companion(path, ".vocab.txt")
    if not report.is_file() or not vocabulary.is_file():
        raise ExportError(
            f"Text needs {report.name} and {vocabulary.name} beside {path}. They are written when "
            "a TextEmbedder with a preprocessor is exported; keep the three together."
        )
    if max(report.stat().st_size, vocabulary.stat().st_size) > MAX_BYTES:
        raise ExportError(f"{report.name} or {vocabulary.name} is larger than {MAX_BYTES} bytes.")
    try:
        settings = json.loads(report.read_text(encoding="utf-8"))["tokenizer"]
        if settings is None:
            raise ValueError("the model was exported without a tokenizer")
        length = int(settings["sequence_length"])
        with open(vocabulary, encoding="utf-8") as lines:
            tokens = [line.rstrip("\n") for line in lines]
        tokenizer = BertTokenizer(
            tokens,
            lowercase=bool(settings["lowercase"]),
            strip_accents=bool(settings["strip_accents"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, RuntimeError) as error:
        raise ExportError(f"{report.name} or {vocabulary.name} is broken: {error}") from error
    return TextEmbedderPreprocessor(tokenizer, sequence_length=length)
