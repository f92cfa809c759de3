"""SavedModels that take strings, and what is said where they do not."""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm import cli, export, models
from keras_addnorm.export.text_graph import check, why_not
from keras_addnorm.export.text_graph.word_piece import WordPieceGraph
from keras_addnorm.models import TextClassifierPreprocessor, Tokenizer
from tests.common import word_piece
from tests.export import common
from tests.export.text_graph.test_word_piece import changed

TEXTS = ["a cat sits on the mat.", "", "How do I reset my [MASK]?", "caf\u00e9 \u4e2d " * 20]


def signatures(path):
    loaded = tf.saved_model.load(str(path))
    return loaded, dict(loaded.signatures)


def classifier(**arguments):
    preprocessor = TextClassifierPreprocessor(word_piece(common.VOCABULARY), sequence_length=32)
    task = models.TextClassifier(
        common.encoder(num_segments=2), preprocessor=preprocessor, **arguments
    )
    return common.randomize(task)


def test_an_embedder(tmp_path):
    model = common.embedder()
    report = export.to_saved_model(model, tmp_path / "m")
    names = ["embed", "serve", "serve_text", "serving_default", "tokenize"]
    assert report.text["signatures"] == names and report.text["no_text_because"] is None
    assert report.text["texts"] > 300
    assert report.text["verification"]["embedding"].max_abs_error < 1e-5
    assert json.loads((tmp_path / "m.report.json").read_text())["text"]["signatures"] == names
    _, made = signatures(tmp_path / "m")
    expected = model.encode_text(TEXTS)
    for name in ("embed", "serve_text"):
        out = made[name](text=tf.constant(TEXTS))["embedding"]
        np.testing.assert_allclose(out, expected, atol=1e-5)
    tokens = made["tokenize"](text=tf.constant(TEXTS))
    for name in ("serve", "serving_default"):
        np.testing.assert_allclose(made[name](**tokens)["embedding"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 3, "labels": ["b", "a", "c"]},
        {"num_classes": 2, "activation": "sigmoid"},
        {"num_classes": 1},
    ],
    ids=str,
)
def test_a_classifier(tmp_path, arguments):
    model = classifier(**arguments)
    report = export.to_saved_model(model, tmp_path / "m", text=True)
    assert "classify" in report.text["signatures"] and "embed" not in report.text["signatures"]
    _, made = signatures(tmp_path / "m")
    out = made["classify"](text=tf.constant(TEXTS))
    expected = model.classify(TEXTS, top_k=model.num_classes)
    for row, pairs in enumerate(expected):
        labels = [label.decode() for label in out["labels"][row].numpy()]
        assert labels == [str(label) for label, _ in pairs]
        np.testing.assert_allclose(out["scores"][row], [score for _, score in pairs], atol=1e-5)
    (raw,) = made["serve_text"](text=tf.constant(TEXTS)).values()
    np.testing.assert_allclose(raw, model.predict(TEXTS, verbose=0), atol=1e-5)


def test_fixed_sizes(tmp_path):
    model = common.embedder()
    export.to_saved_model(model, tmp_path / "m", batch_size=2, sequence_length=8)
    loaded, made = signatures(tmp_path / "m")
    tokens = made["tokenize"](text=tf.constant(TEXTS[:2]))
    assert tokens["token_ids"].shape == (2, 8)
    expected = model(model.preprocessor.tokenize(TEXTS[:2], 8))
    np.testing.assert_allclose(
        made["embed"](text=tf.constant(TEXTS[:2]))["embedding"], expected, atol=1e-5
    )
    with pytest.raises(export.ExportError, match="texts need a length of at least 3"):
        export.to_saved_model(model, tmp_path / "n", sequence_length=2, text=True)
    assert not (tmp_path / "n").exists()


def test_without_strings(tmp_path):
    report = export.to_saved_model(common.embedder(), tmp_path / "m", text=False)
    assert report.text == {
        "signatures": ["serve", "serving_default"],
        "no_text_because": "text=False was asked for",
    }
    with pytest.raises(ValueError, match=r"`text` must be True, False or None. Received: text='y'"):
        export.to_saved_model(common.embedder(), tmp_path / "n", text="y")


def byte_level():
    from tokenizers import Tokenizer as Rust
    from tokenizers.models import BPE

    rust = Rust(BPE({"[PAD]": 0, "a": 1}, [], unk_token="[PAD]"))
    return Tokenizer(rust.to_str(), pad_token="[PAD]")


def reasons():
    bert = word_piece(common.VOCABULARY)
    normalized = word_piece(common.VOCABULARY)
    normalized.tokenizer.add_tokens(["Ada"])
    overlapping = word_piece(common.VOCABULARY)
    overlapping.tokenizer.add_special_tokens(["<a>", "a>b"])
    repeated = word_piece(common.VOCABULARY)
    repeated.tokenizer.add_special_tokens(["aba"])

    marked = word_piece([*common.VOCABULARY, "##\U0001d165", "##\u0301"])  # a Mc, which stays

    def drop_normalizer(settings):
        settings["normalizer"] = None

    def second_segment(settings):
        a, b = ({"Sequence": {"id": id, "type_id": 1}} for id in "AB")
        post = {"type": "TemplateProcessing", "single": [a], "pair": [a, b], "special_tokens": {}}
        settings["post_processor"] = post

    return [
        (byte_level(), "the tokenizer's model is BPE, not WordPiece"),
        (changed(bert, drop_normalizer), "the tokenizer's normalizer is None, not BertNormalizer"),
        (changed(bert, second_segment), "texts alone are not in segment 0"),
        (marked, "the order of the combining mark U+1D165, which is in a token, counts"),
        (normalized, "the added token 'Ada' is normalized or a single word"),
        (overlapping, "the added tokens '<a>' and 'a>b' may overlap in a text"),
        (repeated, "the added tokens 'aba' and 'aba' may overlap in a text"),
    ]


@pytest.mark.parametrize("tokenizer, reason", reasons(), ids=lambda value: str(value)[:60])
def test_tokenizers_that_are_no_graph(tokenizer, reason):
    preprocessor = models.TextEmbedderPreprocessor(tokenizer, sequence_length=32)
    model = models.TextEmbedder(common.encoder(num_segments=2), preprocessor=preprocessor)
    assert why_not(model) == reason


def test_where_it_cannot_be_ids_are_served_and_the_report_says_why(tmp_path, capfd):
    preprocessor = models.TextEmbedderPreprocessor(byte_level(), sequence_length=32)
    model = models.TextEmbedder(common.encoder(num_segments=2), preprocessor=preprocessor)
    report = export.to_saved_model(model, tmp_path / "m")
    assert report.text["signatures"] == ["serve", "serving_default"]
    assert report.text["no_text_because"] == "the tokenizer's model is BPE, not WordPiece"
    with pytest.raises(export.ExportError, match="model is BPE, not WordPiece. Leave out text"):
        export.to_saved_model(model, tmp_path / "n", text=True)
    model.save(tmp_path / "m.keras")
    capfd.readouterr()
    assert cli.main(["export", str(tmp_path / "m.keras"), str(tmp_path / "again")]) == 0
    assert "takes no strings" in capfd.readouterr().out


def test_models_without_texts(tmp_path):
    report = export.to_saved_model(common.encoder(num_layers=1), tmp_path / "m")
    assert report.text["no_text_because"] == "the model is no TextEmbedder or TextClassifier"


def test_other_ids_are_found_out(tmp_path, monkeypatch):
    class Wrong(WordPieceGraph):
        def __call__(self, texts, length=None):
            tokens = super().__call__(texts, length)
            return {**tokens, "token_ids": tf.maximum(tokens["token_ids"], 1)}  # no [PAD] in texts

    monkeypatch.setattr("keras_addnorm.export.text_graph.signatures.WordPieceGraph", Wrong)
    with pytest.raises(export.VerificationError, match="ids of the text .* are not the tokenizer"):
        export.to_saved_model(common.embedder(), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_other_outputs_are_found_out(tmp_path, monkeypatch):
    right = check.run
    monkeypatch.setattr(
        check,
        "run",
        lambda *args: {k: v * 1.01 if v.dtype == "float32" else v for k, v in right(*args).items()},
    )
    with pytest.raises(export.VerificationError, match="not the same model"):
        export.to_saved_model(common.embedder(), tmp_path / "m")
    assert not list(tmp_path.iterdir())
