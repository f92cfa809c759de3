"""Metadata in a .tflite file: what is written, what is refused, and reading what others wrote."""

import json
import zipfile

import numpy as np
import pytest

from keras_addnorm import export, models
from keras_addnorm.export.embed import embed_texts
from keras_addnorm.export.metadata import ENTRY, collect_metadata, schema
from keras_addnorm.export.metadata.read import read_metadata
from keras_addnorm.export.metadata.tokenizer import media_pipe_vocabulary
from keras_addnorm.export.reader import read_model
from keras_addnorm.export.runtime import LiteRTModel, open_model
from tests.common import word_piece
from tests.export import common

LABELS = ["negative", "so so", "très bien"]


def classifier(num_classes=3, **arguments):
    """A random tiny classifier with a tokenizer, over an encoder without segments."""
    preprocessor = models.TextClassifierPreprocessor(word_piece(common.VOCABULARY), 32)
    task = models.TextClassifier(
        common.encoder(), num_classes, preprocessor=preprocessor, pooling="mean", **arguments
    )
    return common.randomize(task)


@pytest.fixture(scope="module")
def embedder():
    return common.embedder()


@pytest.fixture(scope="module")
def made(embedder, tmp_path_factory):
    """(path, report) of an embedder of any length with metadata."""
    path = tmp_path_factory.mktemp("metadata") / "m.tflite"
    fields = {"license": "Apache-2.0", "author": "Ada", "version": "7"}
    return path, export.to_tflite(embedder, path, metadata=fields)


def test_what_an_embedder_says(made):
    path, report = made
    facts = read_metadata(path)
    inputs = [t.name for t in read_model(path).graphs[0].inputs]
    names = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
    by_tensor = [next(ours for name, ours in names.items() if name in t) for t in inputs]
    assert facts.pop("inputs") == by_tensor
    sizes = facts.pop("files")
    assert facts == {
        "name": "TextEmbedder",
        "description": "Embeds a text as a vector of 32 numbers, of length 1.",
        "version": "7",
        "author": "Ada",
        "license": "Apache-2.0",
        "outputs": ["embedding"],
        "tokenizer": {
            "type": "BertTokenizer",
            "vocabulary": "vocab.txt",
            "tokens": len(common.VOCABULARY),
        },
    }
    with zipfile.ZipFile(path) as archive:
        assert {x.filename: x.file_size for x in archive.infolist()} == sizes
        assert all(x.compress_type == zipfile.ZIP_STORED for x in archive.infolist())
        assert archive.testzip() is None
        assert archive.read("vocab.txt").decode().splitlines() == common.VOCABULARY
        inside = json.loads(archive.read("report.json"))
    assert inside["verification"] == json.loads(report.to_json())["verification"]
    assert not {"bytes", "sha256", "path"} & inside.keys()
    assert report.bytes == path.stat().st_size


def test_the_same_model_gives_the_same_bytes(embedder, made, tmp_path):
    fields = {"license": "Apache-2.0", "author": "Ada", "version": "7"}
    again = export.to_tflite(embedder, tmp_path / "other_name.tflite", metadata=fields)
    assert (tmp_path / "other_name.tflite").read_bytes() == made[0].read_bytes()
    assert again.sha256 == made[1].sha256


def test_every_tool_takes_a_file_with_an_archive_behind_it(embedder, made):
    path, _ = made
    assert export.verify_file(embedder, path)[0].name == "float32"
    assert not [f for f in export.lint_file(path) if f.severity == "error"]
    assert export.bench([path], lengths=[8], runs=2).timings
    vectors, cut = embed_texts(path, ["a cat sits", "the dog " * 40])
    expected = embedder.encode_text(["a cat sits", "the dog " * 40])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert cut == [1]


def test_longer_texts_keep_the_first_tokens_and_the_last(embedder, made):
    """MediaPipe passes texts on as long as they are; the model has 32 positions."""
    run = open_model(made[0])
    ids = np.concatenate([np.arange(5, 75), [3]])[None].astype("int32") % 30
    whole = {"token_ids": ids, "padding_mask": ids * 0 + 1, "segment_ids": ids * 0}
    kept = {name: np.concatenate([x[:, :31], x[:, -1:]], 1) for name, x in whole.items()}
    assert np.array_equal(run(whole)["embedding"], run(kept)["embedding"])


@pytest.mark.parametrize("sequence_length", [None, 16])
def test_a_classifier_gives_probabilities_and_has_three_inputs(tmp_path, sequence_length):
    task, path = classifier(labels=LABELS), tmp_path / "m.tflite"
    report = export.to_tflite(task, path, sequence_length=sequence_length, metadata=True)
    assert [spec.name for spec in report.outputs] == ["probabilities"]
    names = ["padding_mask", "segment_ids", "token_ids"]
    assert [spec.name for spec in report.inputs] == names and report.xnnpack_partitions == 1
    facts = read_metadata(path)
    assert facts["labels"] == LABELS and facts["name"] == "TextClassifier"
    assert facts["description"] == "Classifies a text: the probability of one of 3 classes."
    inputs = task.preprocessor.tokenize(["a cat sits", "yes!"], 16)
    scores = open_model(path)(inputs)["probabilities"]
    logits = np.asarray(task({name: inputs[name] for name in ("token_ids", "padding_mask")}))
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    other = {**inputs, "segment_ids": inputs["padding_mask"]}
    assert np.array_equal(open_model(path)(other)["probabilities"], scores)
    assert export.verify_file(task, path)[0].name == "float32"


def test_outputs_that_are_scores_already_stay(tmp_path):
    for number, (classes, activation, name) in enumerate(
        [(2, "sigmoid", "probabilities"), (3, "softmax", "probabilities"), (1, None, "logits")]
    ):
        path = tmp_path / f"{number}.tflite"
        report = export.to_tflite(classifier(classes, activation=activation), path, metadata=True)
        assert [spec.name for spec in report.outputs] == [name]
        assert report.operators.get("SOFTMAX", 0) == 2 + (activation == "softmax")
        assert "labels" not in read_metadata(path)
        assert export.verify_file(classifier(classes, activation=activation), path)


def test_quantized_files_have_metadata_too(tmp_path, embedder):
    path = tmp_path / "m.tflite"
    texts = [f"{a} {b}" for a in common.WORDS for b in common.WORDS]
    options = {"sequence_length": 16, "calibration": texts, "metadata": True}
    export.to_tflite(embedder, path, quantization="full_int8", **options)
    assert read_metadata(path)["tokenizer"]["tokens"] == len(common.VOCABULARY)
    assert LiteRTModel(path)(embedder.preprocessor.tokenize(["a cat"], 16))["embedding"].any()


def test_the_oldest_runtime_is_noted_anew(made):
    written = read_model(made[0]).metadata["min_runtime_version"]
    assert bytes(written).rstrip(b"\0").decode() == f"{export.lint.lowest_runtime(made[0])}.0"


# Refusals


@pytest.mark.parametrize(
    "options, match",
    [
        ({"lengths": (8, 16)}, r"one signature.*Received: lengths=\(8, 16\)"),
        ({"drop_inputs": ("segment_ids",)}, r"drop_inputs=\('segment_ids',\)"),
        ({"drop_inputs": "segment_ids"}, r"drop_inputs=\('segment_ids',\)"),
        ({"batch_size": 4}, "batch_size=4"),
        ({"metadata": {"licence": "x"}}, "name, description, version, author, license"),
        ({"metadata": {"name": 3}}, "dict of strings"),
        ({"metadata": "yes"}, "bool, or a dict"),
        ({"metadata": {"name": "x" * 10_001}}, "at most 10000 characters"),
    ],
)
def test_options_that_media_pipe_cannot_have(tmp_path, embedder, options, match):
    with pytest.raises(ValueError, match=match):
        export.to_tflite(embedder, tmp_path / "m.tflite", **{"metadata": True, **options})
    assert not list(tmp_path.iterdir())


def test_models_that_media_pipe_cannot_run(tmp_path):
    bare = models.TextEmbedder(common.encoder())
    for model, match in (
        (bare, "without a preprocessor"),
        (common.encoder(), "TransformerEncoder"),
    ):
        with pytest.raises(export.ExportError, match=match):
            export.to_tflite(model, tmp_path / "m.tflite", metadata=True)
    with pytest.raises(export.ExportError, match=r"a line each.*'two\\nlines'.*Rename"):
        collect_metadata(classifier(labels=["a", "two\nlines", "b"]), True)


def change(tokenizer, **parts):
    """A tokenizer with other parts of its tokenizer.json."""
    state = json.loads(tokenizer.to_json())
    for path, value in parts.items():
        *folders, name = path.split("__")
        at = state
        for folder in folders:
            at = at[folder]
        at[name] = value
    roles = {f"{x}_token": f"[{x.upper()}]" for x in ("pad", "unk", "cls", "sep", "mask")}
    return models.Tokenizer(json.dumps(state), **roles)


@pytest.mark.parametrize(
    "parts, match",
    [
        ({"normalizer__lowercase": False}, "keeps capitals"),
        ({"normalizer__handle_chinese_chars": False}, "Chinese characters together"),
        ({"normalizer": None}, "normalizer is None"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer is Whitespace"),
        ({"model__max_input_chars_per_word": 50}, "max_input_chars_per_word is 50, not 100"),
        ({"model__continuing_subword_prefix": "@@"}, "continuing_subword_prefix is '@@'"),
        ({"post_processor": None}, "adds 0 special tokens"),
    ],
)
def test_tokenizers_that_media_pipe_cannot_stand_in_for(parts, match):
    tokenizer = change(word_piece(common.VOCABULARY), **parts)
    with pytest.raises(export.ExportError, match=f"Received: a tokenizer.*{match}"):
        media_pipe_vocabulary(tokenizer)


def test_added_tokens_and_other_models_are_refused():
    import tokenizers

    tokenizer = word_piece(common.VOCABULARY)
    tokenizer.tokenizer.add_tokens(["ne/w"])
    with pytest.raises(export.ExportError, match="added tokens, such as 'ne/w'"):
        media_pipe_vocabulary(tokenizer)
    level = tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]")
    level = models.Tokenizer.from_tokenizers(tokenizers.Tokenizer(level))
    with pytest.raises(export.ExportError, match="model is WordLevel, not WordPiece"):
        media_pipe_vocabulary(level)


def test_special_tokens_of_other_names_change_names_with_media_pipes():
    """As in MPNet, whose vocabulary is BERT's, with <s>, </s> and an unused [CLS] and [SEP]."""
    import tokenizers

    words = ["<s>", "<pad>", "</s>", "[UNK]", "[CLS]", "[SEP]", "a", "cat"]
    bert = tokenizers.BertWordPieceTokenizer({w: i for i, w in enumerate(words)})
    bert.post_processor = tokenizers.processors.BertProcessing(("</s>", 2), ("<s>", 0))
    bert.add_special_tokens(["<s>", "<pad>", "</s>"])
    tokenizer = models.Tokenizer(bert.to_str(), pad_token="<pad>", unk_token="[UNK]")
    expected = ["[CLS]", "<pad>", "[SEP]", "[UNK]", "<s>", "</s>", "a", "cat"]
    assert media_pipe_vocabulary(tokenizer) == expected


def test_lines_that_media_pipe_would_drop_are_filled():
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 6, "b\r": 7, "\n": 8}
    import tokenizers

    tokenizer = models.Tokenizer(tokenizers.BertWordPieceTokenizer(words).to_str())
    found = media_pipe_vocabulary(tokenizer)
    assert found[5:] == ["[no token 5]", "a", "[no token 7]", "[no token 8]"]


# Reading what anything wrote


def test_a_file_without_metadata(tmp_path, embedder):
    export.to_tflite(embedder, tmp_path / "m.tflite", sequence_length=8, verify=False)
    assert read_metadata(tmp_path / "m.tflite") == {}


def test_damaged_bytes_are_a_problem_or_harmless(made, tmp_path, rng):
    """Bytes of the metadata and of the archive, changed at random: no crash, no endless loop."""
    data = made[0].read_bytes()
    metadata = bytes(read_model(made[0]).metadata[ENTRY])
    start = data.index(metadata)
    places = [*range(start, start + len(metadata)), *range(data.index(b"PK\3\4"), len(data))]
    path, problems = tmp_path / "m.tflite", 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.choice(places, 3):
            damaged[place] = rng.choice([0, 1, 127, 128, 255])
        path.write_bytes(damaged)
        problems += "problem" in read_metadata(path)
    assert problems > 20
    for size in (len(data) - 10, len(data) - 100, len(data) - 900):
        path.write_bytes(data[:size])  # No archive any more.
        assert "'vocab.txt' is missing" in read_metadata(path)["problem"]


def test_a_table_that_names_one_part_many_times():
    text = schema.pack({"associated_files": [{"name": "x"}] * 9_000})
    with pytest.raises(ValueError, match="claims more than 10,000 parts"):
        schema.unpack(text)
    long = schema.pack({"associated_files": [{"name": "x" * 60_000}] * 40})
    with pytest.raises(ValueError, match="claims more than 10,000 parts"):
        schema.unpack(long)
    with pytest.raises(ValueError, match="text of 70,000 bytes, more than 65,536"):
        schema.unpack(schema.pack({"name": "x" * 70_000}))
    with pytest.raises(ValueError, match="identifier"):
        schema.unpack(b"\0" * 64)


def test_archives_that_claim_too_much(made, tmp_path):
    data = made[0].read_bytes()
    end = data.rindex(b"PK\5\6")
    entry, path = data.index(b"PK\1\2"), tmp_path / "m.tflite"
    for place, value, problem in (
        (end + 10, b"\xff\xff", "claims 65,535 files"),
        (end + 12, b"\xff\xff\xff\xff", "directory is not where it says"),
        (entry + 10, b"\x08\x00", "'vocab.txt' is compressed"),
        (entry + 20, b"\xff\xff\xff\x7f" * 2, "longer than the archive"),
        (entry + 42, b"\xff\xff\xff\x7f", "is not where its directory says"),
    ):
        path.write_bytes(data[:place] + value + data[place + len(value) :])
        assert problem in read_metadata(path)["problem"]
    huge = len(data).to_bytes(4, "little")
    path.write_bytes(data[: entry + 20] + huge * 2 + data[entry + 28 :])
    assert "problem" in read_metadata(path)


def test_texts_that_steer_the_terminal(embedder, tmp_path):
    fields = {"name": "x\x1b[2Jy", "license": "a\nb"}
    export.to_tflite(embedder, tmp_path / "m.tflite", metadata=fields, verify=False)
    facts = read_metadata(tmp_path / "m.tflite")
    assert facts["name"] == "x\ufffd[2Jy" and facts["license"] == "a\ufffdb"
