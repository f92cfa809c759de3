"""Bundles: what is in the folder is what the manifest says, and it works without the model."""

import hashlib
import json

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tokenizers import Tokenizer as HuggingFaceTokenizer

from keras_addnorm import export, models
from tests.common import word_piece
from tests.export import common

FILES = ["model.tflite", "report.json", "tokenization.json", "tokenizer.json", "vocab.txt"]


def classifier(**arguments):
    """A random tiny classifier with a tokenizer."""
    preprocessor = models.TextClassifierPreprocessor(
        word_piece(common.VOCABULARY), sequence_length=32
    )
    encoder = common.encoder(num_segments=2)
    task = models.TextClassifier(encoder, 3, preprocessor, **arguments)
    return common.randomize(task)


def read(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """(model, folder, report) of an embedder."""
    model, folder = common.embedder(), tmp_path_factory.mktemp("bundles") / "b"
    report = export.to_text_bundle(model, folder, quantization=None, license="Apache-2.0")
    return model, folder, report


def test_the_manifest_has_every_file_with_its_digest(bundle):
    _, folder, report = bundle
    manifest = read(folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([*FILES, "manifest.json"]) and sorted(manifest["files"]) == FILES
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert manifest["files"]["model.tflite"]["sha256"] == report.sha256
    assert [path.name for path in folder.parent.iterdir()] == ["b"]


def test_the_manifest_of_an_embedder(bundle):
    _, folder, _ = bundle
    manifest = {k: v for k, v in read(folder).items() if k != "files"}
    text = [
        {"name": name, "shape": [1, None], "dtype": "int32"}
        for name in ("padding_mask", "segment_ids", "token_ids")
    ]
    assert manifest == {
        "format": "keras_addnorm text bundle",
        "version": 1,
        "task": "embed",
        "model": {
            "file": "model.tflite",
            "quantization": "float32",
            "signatures": [
                {
                    "name": "serving_default",
                    "length": None,
                    "batch_size": 1,
                    "inputs": text,
                    "outputs": [{"name": "embedding", "shape": [1, 32], "dtype": "float32"}],
                }
            ],
            "metadata": False,
        },
        "tokenizer": {
            "file": "tokenizer.json",
            "type": "WordPiece",
            "vocabulary": "vocab.txt",
            "pad_token_id": 0,
            "max_length": 32,
            "special_tokens": {
                f"{role}_token": f"[{role.upper()}]"
                for role in ("pad", "unk", "cls", "sep", "mask")
            },
        },
        "embedding": {"dimension": 32, "pooling": "mean", "normalized": True},
        "license": "Apache-2.0",
    }


def test_the_report_names_the_files_of_the_bundle(bundle):
    _, folder, report = bundle
    record = json.loads((folder / "report.json").read_text())
    assert record["path"] == "model.tflite" and report.path == str(folder / "model.tflite")
    assert record["tokenizer"]["file"] == "tokenizer.json"
    assert record["verification"]["embedding"]["min_cosine"] > 0.9999


def test_vocabulary_lines_are_ids(bundle):
    _, folder, _ = bundle
    assert (folder / "vocab.txt").read_text("utf-8").split("\n") == [*common.VOCABULARY, ""]


def check_vectors(folder):
    """Compares the vectors with Hugging Face's tokenizers on the bundle's own file."""
    vectors = json.loads((folder / "tokenization.json").read_text())
    tokenizer = HuggingFaceTokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(vectors["max_length"])
    assert vectors["max_length"] == read(folder)["tokenizer"]["max_length"]
    for case in vectors["cases"]:
        assert tokenizer.encode(case["text"]).ids == case["ids"], case["text"]
    return vectors


def test_tokenization_vectors(bundle):
    vectors = check_vectors(bundle[1])
    cases = {case["text"]: case["ids"] for case in vectors["cases"]}
    assert cases[""] == [2, 3]
    assert max(map(len, cases.values())) == 32 and len(cases) > 40
    characters = "".join(cases)
    for needed in "é\u0301天👍\x00\u00a0\u200b\ufeff":
        assert needed in characters
    assert any("[CLS]" in text for text in cases)


def test_a_program_that_has_only_the_folder_gives_the_embeddings_of_keras(bundle):
    model, folder, _ = bundle
    tokenizer = HuggingFaceTokenizer.from_file(str(folder / "tokenizer.json"))
    interpreter = Interpreter(str(folder / "model.tflite"))
    run = interpreter.get_signature_runner("serving_default")
    for text in ("a cat sits", "dog!"):
        ids = np.array([tokenizer.encode(text).ids], "int32")
        inputs = {"token_ids": ids, "padding_mask": ids**0, "segment_ids": ids * 0}
        np.testing.assert_allclose(run(**inputs)["embedding"], model.encode_text([text]), atol=1e-5)


def test_several_lengths(tmp_path):
    folder = tmp_path / "b"
    export.to_text_bundle(common.embedder(), folder, quantization=None, lengths=(8, 16))
    first, second = read(folder)["model"]["signatures"]
    assert (first["name"], first["length"], first["batch_size"]) == ("length_8", 8, 1)
    assert (second["name"], second["inputs"][0]["shape"]) == ("length_16", [1, 16])
    assert check_vectors(folder)["max_length"] == 16


@pytest.mark.parametrize("labels", [("good", "bad", "so, so"), None])
def test_a_classifier(tmp_path, labels):
    folder = tmp_path / "b"
    model = classifier(labels=labels, activation="sigmoid")
    export.to_text_bundle(model, folder, quantization=None, sequence_length=16)
    manifest = read(folder)
    assert manifest["task"] == "classify" and "embedding" not in manifest
    assert manifest["classification"] == {"classes": 3, "activation": "sigmoid"}
    assert manifest["labels"] == "labels.txt" and manifest["license"] is None
    lines = (folder / "labels.txt").read_text("utf-8").split("\n")
    assert lines == [*(labels or "012"), ""]
    (signature,) = manifest["model"]["signatures"]
    assert signature["length"] == 16 and signature["outputs"][0]["name"] == "probabilities"
    assert check_vectors(folder)["max_length"] == 16


def test_a_tokenizer_that_is_no_word_piece_has_no_list_of_tokens(tmp_path):
    tokens = {token: id for id, token in enumerate(common.VOCABULARY)}
    level = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": tokens, "unk_token": "[UNK]"},
        "pre_tokenizer": {"type": "Whitespace"},
    }
    tokenizer = models.Tokenizer(json.dumps(level), pad_token="[PAD]", unk_token="[UNK]")
    model = common.embedder()
    model.preprocessor = models.TextEmbedderPreprocessor(tokenizer, sequence_length=32)
    export.to_text_bundle(model, tmp_path / "b", quantization=None)
    manifest = read(tmp_path / "b")
    assert manifest["tokenizer"]["type"] == "WordLevel"
    assert manifest["tokenizer"]["vocabulary"] is None and "vocab.txt" not in manifest["files"]
    check_vectors(tmp_path / "b")


def test_only_a_bundle_is_replaced_and_only_when_asked(tmp_path):
    folder = tmp_path / "b"
    model = common.embedder()
    export.to_text_bundle(model, folder, quantization=None)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export.to_text_bundle(model, folder)
    export.to_text_bundle(classifier(), folder, quantization=None, overwrite=True)
    assert read(folder)["task"] == "classify"
    other = tmp_path / "site"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    with pytest.raises(FileExistsError, match="holds no tokenization.json"):
        export.to_text_bundle(model, other, overwrite=True)
    assert (other / "manifest.json").read_text() == "{}"


def test_a_failed_export_leaves_nothing_and_loses_nothing(bundle, tmp_path):
    model = common.embedder()
    export.to_text_bundle(model, tmp_path / "b", quantization=None)
    before = (tmp_path / "b" / "manifest.json").read_bytes()
    for name in ("b", "new"):
        with pytest.raises(ValueError, match="at most 32"):
            export.to_text_bundle(model, tmp_path / name, lengths=(64,), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "manifest.json").read_bytes() == before


def no_pad_token():
    model = common.embedder()
    tokenizer = word_piece(common.VOCABULARY)
    tokenizer.pad_token_id = None
    model.preprocessor = models.TextEmbedderPreprocessor(tokenizer, sequence_length=32)
    return model


@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (common.encoder, {}, "type TransformerEncoder. Pass for instance"),
        (common.plain_keras_model, {}, "type Functional. Pass for instance"),
        (
            lambda: models.TextEmbedder(common.encoder()),
            {},
            "type TextEmbedder without one",
        ),
        (no_pad_token, {}, "needs a tokenizer with a `pad_token`"),
        (
            common.embedder,
            {"license": 3},
            "`license` must be a string or None. Received: license=3",
        ),
        (
            common.embedder,
            {"lengths": (8,), "drop_inputs": ("padding_mask",)},
            "so it needs the padding_mask",
        ),
        (lambda: classifier(labels=["a", "b\nc", "d"]), {}, r"single lines. Received: \['b\\nc'\]"),
    ],
)
def test_refusals(make, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_text_bundle(make(), tmp_path / "b", **arguments)
    assert list(tmp_path.iterdir()) == []
