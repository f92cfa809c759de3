"""Metadata of a .tflite file by which MediaPipe's TextEmbedder and TextClassifier run it on text.

A flatbuffer of its own inside the model says what the tensors are and which tokenizer to use;
vocabulary, labels and the verification report lie in an archive behind the model.
"""

import dataclasses
import json

import keras

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.metadata import schema
from keras_addnorm.export.metadata.archive import append_files
from keras_addnorm.export.metadata.tokenizer import media_pipe_vocabulary
from keras_addnorm.models import TextClassifier, TextEmbedder
from keras_addnorm.models.text_preprocessor import TextPreprocessor

ENTRY = "TFLITE_METADATA"  # the name of the flatbuffer in the model
FIELDS = ("name", "description", "version", "author", "license")
MOST_CHARACTERS = 10_000  # of a field

# MediaPipe's names of the inputs, all three of which a file must have.
INPUTS = {
    "token_ids": ("ids", "Ids of the tokens of a text, in the order of the vocabulary."),
    "padding_mask": ("mask", "1 for tokens, 0 for padding."),
    "segment_ids": ("segment_ids", "0 for all tokens of the first text."),
}
VOCABULARY, LABELS, REPORT = "vocab.txt", "labels.txt", "report.json"
PROBABILITIES = "probabilities"

# Of the report, what is not the same in every export of a model, or, as its own digest, cannot be
# inside the file.
OUTSIDE = ("path", "bytes", "sha256", "seconds", "tokenizer")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a file says of itself.

    Attributes:
        fields: dict of strings by names of `FIELDS`.
        vocabulary: list of strings, the word pieces by id.
        labels: tuple of strings, the names of the classes, or None.
    """

    fields: dict
    vocabulary: list
    labels: tuple | None = None

    def written(self, data):
        """The bytes of a .tflite file with the flatbuffer of metadata in it."""
        graph = Graph(data)
        names = {tensor: name for name, tensor in graph.signature_inputs().items()}
        found = [names.get(int(tensor)) for tensor in graph.inputs]
        if sorted(map(str, found)) != sorted(INPUTS):
            raise ExportError(
                f"Metadata is for the inputs {list(INPUTS)}. Received: {found}. Leave `metadata` "
                "out, or give the model a `token_ids` input."
            )
        graph.set_metadata(ENTRY, schema.pack(self._value(found, [*graph.signature_outputs()])))
        return graph.to_bytes()

    def _value(self, inputs, outputs):
        """A `ModelMetadata`; MediaPipe fills inputs by the order of their descriptions."""
        vocabulary = {"name": VOCABULARY, "type": schema.VOCABULARY}
        labels = {"name": LABELS, "type": schema.AXIS_LABELS}
        tensors = [dict(zip(("name", "description"), INPUTS[name], strict=True)) for name in inputs]
        results = [{"name": name} for name in outputs]
        if self.labels is not None:
            results[0]["associated_files"] = [labels]
        graph = {
            "input_tensor_metadata": tensors,
            "output_tensor_metadata": results,
            "input_process_units": [
                {"options": ("BertTokenizerOptions", {"vocab_file": [vocabulary]})}
            ],
        }
        report = {"name": REPORT, "description": "How the file was proven to be the Keras model."}
        return {
            **self.fields,
            "subgraph_metadata": [graph],
            "associated_files": [report],
            "min_parser_version": schema.MIN_PARSER_VERSION,
        }

    def attach(self, path, report):
        """Writes vocabulary, labels and the report behind a .tflite file.

        Args:
            path: the file, with the flatbuffer of metadata in it.
            report: an `ExportReport`; what names its file, and its digest, is left out.
        """
        record = json.loads(report.to_json())
        record = {name: value for name, value in record.items() if name not in OUTSIDE}
        files = {VOCABULARY: _lines(self.vocabulary), REPORT: json.dumps(record, indent=2) + "\n"}
        if self.labels is not None:
            files[LABELS] = _lines(self.labels)
        append_files(path, {name: text.encode() for name, text in files.items()})


def _lines(texts):
    return "".join(f"{text}\n" for text in texts)


def collect_metadata(model, metadata, *, batch_size=1, lengths=None, drop_inputs=()):
    """The `Metadata` of a model; None where none is asked for.

    Args:
        model: a `TextEmbedder` or `TextClassifier` with a preprocessor.
        metadata: bool, or a dict of strings by names of `FIELDS`, which replace the defaults.
        batch_size, lengths, drop_inputs: as in `to_tflite`.

    Raises:
        ValueError: if `metadata` is neither, or an option gives a file that MediaPipe refuses.
        ExportError: if the model is none that MediaPipe could run on text.
    """
    if metadata is None or metadata is False:
        return None
    given = _fields(metadata)
    dropped = (drop_inputs,) if isinstance(drop_inputs, str) else tuple(drop_inputs)
    options = {"batch_size": batch_size, "lengths": lengths, "drop_inputs": dropped}
    wanted = {"batch_size": 1, "lengths": None, "drop_inputs": ()}
    wrong = [f"{name}={value!r}" for name, value in options.items() if value != wanted[name]]
    if wrong:
        raise ValueError(
            "`metadata` makes a file for MediaPipe, which takes one signature with a text a call "
            f"and the inputs {list(INPUTS)}. Received: {', '.join(wrong)}. Leave it out, or "
            "`metadata`."
        )
    if not isinstance(model, (TextEmbedder, TextClassifier)):
        raise ExportError(
            "`metadata` is for MediaPipe's TextEmbedder and TextClassifier, so for those of "
            f"keras_addnorm. Received: an object of type {type(model).__name__}. Leave it out."
        )
    if not isinstance(model.preprocessor, TextPreprocessor):
        raise ExportError(
            "`metadata` holds the model's vocabulary. Received: a model without a preprocessor of "
            "keras_addnorm. Pass `preprocessor` when the model is made."
        )
    vocabulary = media_pipe_vocabulary(model.preprocessor.tokenizer)
    if isinstance(model, TextEmbedder):
        return Metadata({"name": "TextEmbedder", "description": _of(model), **given}, vocabulary)
    defaults = {"name": "TextClassifier", "description": _of(model)}
    return Metadata({**defaults, **given}, vocabulary, _labels(model.labels))


def _fields(metadata):
    if metadata is True:
        return {}
    if not isinstance(metadata, dict) or not all(
        name in FIELDS and isinstance(value, str) and len(value) <= MOST_CHARACTERS
        for name, value in metadata.items()
    ):
        raise ValueError(
            f"`metadata` must be a bool, or a dict of strings by the names {', '.join(FIELDS)}, of "
            f"at most {MOST_CHARACTERS} characters each. Received: metadata={metadata!r:.200}. "
            "Pass for instance {'license': 'Apache-2.0'}."
        )
    return dict(metadata)


def _of(model):
    size = model.output.shape[-1]
    if isinstance(model, TextEmbedder):
        length = ", of length 1" if model.normalize else ""
        return f"Embeds a text as a vector of {size} numbers{length}."
    if model.activation is None and size == 1:
        return "Rates a text by a number."
    kind = "each class" if model.activation == "sigmoid" else f"one of {size} classes"
    return f"Classifies a text: the probability of {kind}."


def _labels(labels):
    """Labels that MediaPipe reads as they are: it takes a line for each."""
    wrong = [x for x in labels or () if not x or "\n" in x or "\r" in x]
    if wrong:
        raise ExportError(
            "MediaPipe reads labels from a file with a line each. "
            f"Received: the label {wrong[0]!r}. Rename it."
        )
    return labels


def with_probabilities(model):
    """A model that returns probabilities where it returned the logits of several classes.

    MediaPipe shows a classifier's outputs as they are, as scores: it applies no softmax.

    Args:
        model: a functional model of one output.
    """
    logits = model.output
    if not isinstance(logits, keras.KerasTensor) or logits.shape[-1] == 1:
        return model
    if logits._keras_history.operation.name != "logits":
        return model
    softmax = keras.layers.Activation("softmax", dtype=logits.dtype, name=PROBABILITIES)
    return keras.Model(model.input, softmax(logits), name=model.name)
