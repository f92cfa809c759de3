"""Tokenizer files that are missing, broken, too large, or say two things."""

import json

import pytest

from keras_addnorm import zoo
from keras_addnorm.zoo import CheckpointError, vocabulary_files
from keras_addnorm.zoo import tokenizers as zoo_tokenizers
from keras_addnorm.zoo.tokenizers import tokenizer_of
from tests.common import word_piece
from tests.zoo import vocabularies
from tests.zoo.common import copy_checkpoint, edit_json, make_sentence_transformer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s"]


def problems(folder, size=1000):
    with pytest.raises(CheckpointError) as caught:
        tokenizer_of(folder, size)
    return "\n".join(caught.value.problems)


@pytest.fixture
def json_folder(tmp_path):
    word_piece(WORDS).save_assets(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def test_nothing_to_tokenize_with(tmp_path):
    assert "there is no tokenizer.json, and tokenizer class None" in problems(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    assert "there is neither tokenizer.json nor spm.model" in problems(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000], ids=range(5))
def test_a_broken_tokenizer_json(json_folder, content):
    (json_folder / "tokenizer.json").write_bytes(content)
    message = "is not UTF-8" if content == b"\xff" else "tokenizer.json is broken"
    assert message in problems(json_folder)


def test_settings_that_contradict_the_tokenizer_json(json_folder):
    edit_json(json_folder / "tokenizer_config.json", do_lower_case=True)
    assert tokenizer_of(json_folder, 8)("CATS").tolist() == [6, 7]
    settings = {"do_lower_case": False, "tokenize_chinese_chars": False}
    edit_json(json_folder / "tokenizer_config.json", **settings)
    found = problems(json_folder)
    assert "tokenizer_config.json sets do_lower_case to False, tokenizer.json to True" in found
    assert "tokenizer_config.json sets tokenize_chinese_chars to False" in found
    settings = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": True}
    edit_json(json_folder / "tokenizer_config.json", **settings)  # as null: it follows the case
    assert tokenizer_of(json_folder, 8)("CATS").tolist() == [6, 7]


def test_a_tokenizer_json_that_does_not_fit_the_embedding(json_folder):
    assert "the tokenizer has 8 tokens, the embedding only 7 rows" in problems(json_folder, 7)
    content = json.loads((json_folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["far"] = 2**31
    (json_folder / "tokenizer.json").write_text(json.dumps(content))
    assert "the tokenizer has 2147483649 tokens" in problems(json_folder)


def test_the_token_for_padding_must_be_known(json_folder):
    (json_folder / "config.json").unlink()
    assert "no pad_token is named" in problems(json_folder)
    edit_json(json_folder / "special_tokens_map.json", pad_token={"content": "[PAD]"})
    assert tokenizer_of(json_folder, 8).pad_token_id == 0


def test_files_are_bounded(json_folder, monkeypatch):
    monkeypatch.setattr(zoo_tokenizers, "MAX_BYTES", 100)
    assert "tokenizer.json is larger than 100 bytes" in problems(json_folder)
    (json_folder / "tokenizer.json").unlink()
    monkeypatch.setattr(vocabulary_files, "MAX_BYTES", 10)
    (json_folder / "vocab.txt").write_text("\n".join(WORDS))
    assert "vocab.txt is larger than 10 bytes" in problems(json_folder)


@pytest.mark.parametrize(
    ("model_type", "file", "content", "message"),
    [
        ("roberta", "vocab.json", b"{", "vocab.json or merges.txt is broken"),
        ("roberta", "vocab.json", b'{"a": "b"}', "vocab.json or merges.txt is broken"),
        ("roberta", "merges.txt", b"a b c\n", "vocab.json or merges.txt is broken"),
        ("roberta", "merges.txt", b"no such\n", "vocab.json or merges.txt is broken"),
        ("roberta", "merges.txt", b"\xff\n", "merges.txt is not UTF-8"),
        ("deberta-v2", "spm.model", b"\xff\xff", "spm.model is broken"),
        ("deberta-v2", "spm.model", b"", "spm.model is broken"),
        ("esm", "vocab.txt", b"A\nA\n", "vocab.txt holds a token twice"),
        ("esm", "vocab.txt", b"A\n<unk>\n", "vocab.txt has no <cls>"),
    ],
)
def test_broken_vocabulary_files(tmp_path, model_type, file, content, message):
    vocabularies.write(tmp_path, model_type)
    (tmp_path / file).write_bytes(content)
    assert message in problems(tmp_path)


def edit_sentence_piece(path, edit):
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    edit(model)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: setattr(m.trainer_spec, "model_type", 2), "its tokenizer.json is needed"),
        (lambda m: setattr(m.trainer_spec, "byte_fallback", True), "tokenizer.json is needed"),
        (lambda m: setattr(m.normalizer_spec, "add_dummy_prefix", False), "json is needed"),
        (lambda m: setattr(m.normalizer_spec, "precompiled_charsmap", b"\1"), "is broken"),
        (lambda m: setattr(m.trainer_spec, "unk_id", 10**6), "is broken"),
    ],
    ids=range(5),
)
def test_sentence_piece_models_that_cannot_be_converted(tmp_path, edit, message):
    path = vocabularies.write(tmp_path, "deberta-v2") / "spm.model"
    edit_sentence_piece(path, edit)
    assert message in problems(tmp_path)


def test_special_tokens_that_a_template_needs(tmp_path):
    vocabularies.write(tmp_path, "esm")
    (tmp_path / "tokenizer_config.json").write_text('{"cls_token": null, "unk_token": null}')
    assert problems(tmp_path).split("\n") == [
        "special token cls_token must be a string",
        "special token unk_token must be a string",
    ]


def test_everything_about_text_is_said_at_once(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    edit_json(folder / "sentence_bert_config.json", max_seq_length=10**6)
    edit_json(folder / "tokenizer_config.json", padding_side="left", do_lower_case=3)
    with pytest.raises(CheckpointError) as caught:
        zoo.from_hugging_face(folder, task="embed")
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "max_seq_length",
        "tokenizer",
        "tokenizer",
    ]


def test_lowercasing_twice_and_only_before(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    edit_json(folder / "sentence_bert_config.json", do_lower_case=True)
    assert zoo.from_hugging_face(folder, task="embed").preprocessor.sequence_length == 16
    edit_json(folder / "tokenizer_config.json", do_lower_case=False)
    with pytest.raises(CheckpointError, match="lowercases, but the tokenizer is cased"):
        zoo.from_hugging_face(folder, task="embed")
