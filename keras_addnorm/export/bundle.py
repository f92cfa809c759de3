"""A folder with all that a program needs to go from text to embeddings or labels."""

import dataclasses
import json
import pathlib

from keras_addnorm import files
from keras_addnorm.export.metadata import LABELS, PROBABILITIES, REPORT, VOCABULARY
from keras_addnorm.export.runtime import LiteRTModel, length_of
from keras_addnorm.export.signature import SIGNATURE
from keras_addnorm.export.tflite import to_tflite
from keras_addnorm.export.tokenizer import SUFFIX
from keras_addnorm.export.vectors import make_vectors
from keras_addnorm.models import TextClassifier, TextEmbedder
from keras_addnorm.models.text_preprocessor import TextPreprocessor
from keras_addnorm.text.bundle import FORMAT, MANIFEST, VECTORS, VERSION

MODEL, TOKENIZER = "model.tflite", "tokenizer.json"


def to_text_bundle(
    model,
    folder,
    *,
    quantization="dynamic_int8",
    sequence_length=None,
    batch_size=1,
    lengths=None,
    drop_inputs=(),
    calibration=None,
    metadata=False,
    license=None,
    verify=True,
    overwrite=False,
    progress=None,
):
    """Exports a text model as a folder that a program in any language can use on its own.

    The folder holds `model.tflite` (pooling and normalization are inside), `tokenizer.json` for
    Hugging Face's `tokenizers`, `vocab.txt` where the tokenizer is WordPiece, `labels.txt` of a
    classifier, `tokenization.json` (texts and their ids, for whoever writes the tokenizer anew),
    `report.json` (the verification) and `manifest.json`, which describes all of them and has the
    SHA-256 of each. `keras_addnorm.text` reads it without TensorFlow or Keras.

    Args:
        model: a `TextEmbedder` or `TextClassifier` with a preprocessor of `keras_addnorm.models`.
        folder: where the bundle is written, as a whole.
        quantization, sequence_length, batch_size, lengths, drop_inputs, calibration, metadata,
            verify, progress: as in `to_tflite`.
        license: str, SPDX identifier of the licence of the weights, for the manifest and metadata.
        overwrite: bool, whether an existing bundle may be replaced.

    Returns:
        An `ExportReport`; its `path` is that of `model.tflite`.

    Raises:
        FileExistsError: if `folder` exists and `overwrite` is False, or is no bundle.
        ValueError: on an invalid argument.
        ExportError, VerificationError: as in `to_tflite`. Whatever is raised, what was at
            `folder` is still there.

    Example:

    ```python
    embedder = keras_addnorm.zoo.from_hugging_face("minilm", task="embed")
    keras_addnorm.export.to_text_bundle(embedder, "minilm", license="Apache-2.0")
    ```
    """
    folder = pathlib.Path(folder)
    files.refuse_existing([folder], overwrite, marker=VECTORS)
    fixed = sequence_length is not None or lengths is not None
    _check(model, fixed, drop_inputs, license)
    with files.staging(folder) as stage:
        draft = stage / folder.name
        report = to_tflite(
            model,
            draft / MODEL,
            quantization=quantization,
            sequence_length=sequence_length,
            batch_size=batch_size,
            lengths=lengths,
            drop_inputs=drop_inputs,
            calibration=calibration,
            metadata=_metadata(metadata, license),
            verify=verify,
            progress=progress,
        )
        exported = LiteRTModel(draft / MODEL)
        report = _write_companions(model, exported, report, draft, folder)
        manifest = _manifest(model, exported, report, draft, license)
        manifest["model"]["metadata"] = bool(metadata)
        _write_json(draft / MANIFEST, manifest)
        files.place_all([(draft, folder)])
    return report


def _check(model, fixed, drop_inputs, license):
    is_text = isinstance(model, (TextEmbedder, TextClassifier))
    if not is_text or not isinstance(model.preprocessor, TextPreprocessor):
        raise ValueError(
            "A bundle is made of a TextEmbedder or TextClassifier with a preprocessor of "
            f"keras_addnorm. Received: an object of type {type(model).__name__}"
            f"{' without one' if is_text else ''}. Pass for instance "
            "zoo.from_hugging_face(..., task='embed')."
        )
    if model.preprocessor.tokenizer.pad_token_id is None:
        raise ValueError(
            "A bundle needs a tokenizer with a `pad_token`. Received: pad_token=None. Pass it to "
            "Tokenizer, for instance pad_token='[PAD]'."
        )
    if fixed and "padding_mask" in drop_inputs:
        raise ValueError(
            "A text shorter than a fixed length is padded, so it needs the padding_mask. Received: "
            f"drop_inputs={drop_inputs!r} with `lengths` or `sequence_length`. Leave out one."
        )
    if license is not None and not isinstance(license, str):
        raise ValueError(
            f"`license` must be a string or None. Received: license={license!r}. Pass an SPDX "
            "identifier such as 'Apache-2.0'."
        )
    broken = [x for x in getattr(model, "labels", None) or () if "\n" in x or "\r" in x]
    if broken:
        raise ValueError(
            f"{LABELS} has a label a line, so labels must be single lines. "
            f"Received: {broken}. Rename them."
        )


def _metadata(metadata, license):
    """The argument of `to_tflite`, with the licence where none is given."""
    if not metadata or license is None:
        return metadata
    return {"license": license, **(metadata if isinstance(metadata, dict) else {})}


def _write_companions(model, exported, report, draft, folder):
    """Writes what lies beside the model; returns the report with its names in the bundle."""
    (draft / f"{MODEL}.report.json").unlink()
    (draft / f"{MODEL}{SUFFIX}").rename(draft / TOKENIZER)
    longest = report.tokenizer["sequence_length"]
    longest = min(longest, max(exported.lengths, default=longest))
    tokenizer = {**report.tokenizer, "file": TOKENIZER, "sequence_length": longest}
    report = dataclasses.replace(report, path=str(folder / MODEL), tokenizer=tokenizer)
    (draft / REPORT).write_text(report.to_json(), encoding="utf-8")
    _write_json(draft / VECTORS, make_vectors(model.preprocessor, longest), indent=None)
    tokens = model.preprocessor.tokenizer.get_vocabulary()
    # A token with a line break in it has no place in a list of lines.
    if tokenizer["type"] == "WordPiece" and not any("\n" in x or "\r" in x for x in tokens):
        _write_lines(draft / VOCABULARY, tokens)
    if isinstance(model, TextClassifier):
        _write_lines(draft / LABELS, model.labels or map(str, range(model.num_classes)))
    return report


def _manifest(model, exported, report, draft, license):
    names = sorted(path.name for path in draft.iterdir())
    tokenizer = report.tokenizer
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": "classify" if LABELS in names else "embed",
        "model": {
            "file": MODEL,
            "quantization": report.quantization,
            "signatures": _signatures(exported),
        },
        "tokenizer": {
            "file": TOKENIZER,
            "type": tokenizer["type"],
            "vocabulary": VOCABULARY if VOCABULARY in names else None,
            "pad_token_id": tokenizer["pad_token_id"],
            "max_length": tokenizer["sequence_length"],
            "special_tokens": tokenizer["special_tokens"],
        },
        **_task_section(model, report),
        "license": license,
        "files": {name: _entry(draft / name) for name in names},
    }


def _task_section(model, report):
    if isinstance(model, TextClassifier):
        # Without an activation the outputs are logits, of which a softmax makes scores.
        added = report.outputs[0].name == PROBABILITIES  # as the readers of metadata want them
        activation = model.activation or ("softmax" if added else None)
        section = {"classes": model.num_classes, "activation": activation}
        return {"classification": section, "labels": LABELS}
    (output,) = report.outputs
    return {
        "embedding": {
            "dimension": output.shape[-1],
            "pooling": model.pooling,
            "normalized": bool(model.normalize),
        }
    }


def _signatures(exported):
    return [
        {
            "name": name or SIGNATURE,
            "length": length_of(inputs),
            "batch_size": inputs[0].shape[0],
            "inputs": [dataclasses.asdict(spec) for spec in inputs],
            "outputs": [dataclasses.asdict(spec) for spec in outputs],
        }
        for name, (inputs, outputs) in exported.signatures.items()
    ]


def _entry(path):
    size, digest = files.size_and_digest(path)
    return {"bytes": size, "sha256": digest}


def _write_json(path, value, indent=2):
    path.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def _write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
