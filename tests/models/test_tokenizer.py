"""Tokenizer: ids, text, files, graphs, threads, and tokenizer.json files that are broken."""

import concurrent.futures
import json
import os

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm.models import Tokenizer, tokenizer
from tests.common import word_piece

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]


@pytest.fixture
def tokens():
    return word_piece(WORDS)


def test_ids_and_text(tokens):
    np.testing.assert_array_equal(tokens("A cat sats"), [5, 6, 7, 8])
    assert tokens("A cat").dtype == "int32"
    assert tokens(["the dog", "", "[MASK] x"]) == [[10, 9], [], [4, 1]]
    assert tokens(np.array(["the dog"])) == tokens(tf.constant(["the dog"])) == [[10, 9]]
    assert tokens.detokenize([5, 6, 7, 8]) == "a cat sats"
    ids = np.array([[2, 5, 3], [2, 9, 3]])
    assert tokens.detokenize(ids) == ["[CLS] a [SEP]", "[CLS] dog [SEP]"]
    assert tokens.detokenize(ids, skip_special_tokens=True) == ["a", "dog"]


def test_vocabulary(tokens):
    assert tokens.vocabulary_size() == 11 and tokens.get_vocabulary() == WORDS
    assert tokens.token_to_id("cat") == 6 and tokens.id_to_token(6) == "cat"
    assert (tokens.pad_token_id, tokens.mask_token_id, tokens.bos_token_id) == (0, 4, None)
    assert sorted(tokens.special_token_ids) == [0, 1, 2, 3, 4]
    assert sorted(tokens.special_tokens) == sorted(WORDS[:5])
    assert tokens.num_special_tokens() == 2 and tokens.num_special_tokens(is_pair=True) == 3
    with pytest.raises(ValueError, match="must be in the vocabulary. Received: token='bird'"):
        tokens.token_to_id("bird")
    for id in (11, -1):
        with pytest.raises(ValueError, match=f"below 11. Received: id={id}"):
            tokens.id_to_token(id)


def test_encode_is_that_of_tokenizers(tokens):
    (encoding,) = tokens.encode(["a cat"], ["the dogs sat"], max_length=7)
    assert encoding.tokens == ["[CLS]", "a", "cat", "[SEP]", "the", "dog", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1, 1]
    (encoding,) = tokens.encode([["a", "cats"]], is_pretokenized=True, add_special_tokens=False)
    assert encoding.word_ids == [0, 1, 1] and encoding.offsets == [(0, 1), (0, 3), (3, 4)]


def test_in_a_graph(tokens):
    dataset = tf.data.Dataset.from_tensor_slices(["a cat", "the dogs"])
    assert [ids.tolist() for ids in dataset.map(tokens).as_numpy_iterator()] == [[5, 6], [10, 9, 8]]
    (batch,) = dataset.batch(2).map(tokens)
    assert batch.to_list() == [[5, 6], [10, 9, 8]] and batch.dtype == "int32"


def test_threads_that_cut_at_different_lengths(tokens):
    def size(length):
        return len(tokens.encode(["a cat " * 30], max_length=length)[0].ids)

    lengths = [*range(3, 40)] * 20
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(size, lengths)) == lengths


def test_keras_files_and_presets(tokens, tmp_path):
    text = keras.Input((), dtype="string", name="text")
    del text  # A functional model cannot hold Python; a layer of a model that is not called can.
    tokens.save_to_preset(str(tmp_path / "preset"))
    tokens.save_assets(str(tmp_path))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(tokens)))
    loaded = keras.saving.deserialize_keras_object(config)
    with pytest.raises(ValueError, match="no tokenizer.json is loaded. Pass its text"):
        loaded("a")
    loaded.load_assets(str(tmp_path))
    assert loaded(["a cat"]) == [[5, 6]] and loaded.mask_token_id == 4
    assert loaded.to_json() == tokens.to_json()
    assert (tmp_path / "preset" / "assets" / "tokenizer" / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("inputs", "received"),
    [
        ([1], "1 of type int"),
        ("a\ud800", "of type str"),
        ([b"\xff"], "of type bytes"),
        ([None], "None"),
    ],
    ids=str,
)
def test_what_is_no_text(tokens, inputs, received):
    with pytest.raises(ValueError, match="Texts must be strings in UTF-8") as error:
        tokens.tokenize(inputs)
    assert received in str(error.value)


def broken(**changes):
    content = json.loads(word_piece(WORDS).to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = content
        for name in parents:
            part = part[name]
        part[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        broken(model__vocab={"a": 0}),
        broken(model__vocab={"[UNK]": -1}),
        broken(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}),
        broken(model={"type": "Quantum"}),
        broken(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        broken(pre_tokenizer={"type": "Split", "pattern": {"Regex": "((("}}),
    ],
    ids=range(11),
)
def test_a_broken_tokenizer_json_is_one_error(text):
    with pytest.raises(ValueError, match="tokenizer.json is broken: "):
        Tokenizer(text)


def test_a_template_with_ids_that_are_no_tokens():
    content = json.loads(word_piece(WORDS).to_json())
    content["post_processor"]["cls"] = ["[CLS]", 10**6]
    with pytest.raises(ValueError, match=r"adds the ids \[1000000\], no tokens"):
        Tokenizer(json.dumps(content))


def test_ids_are_bounded():
    with pytest.raises(ValueError, match="ids must be below 16777216. Received: 2147483648"):
        Tokenizer(broken(model__vocab={"[UNK]": 0, "[CLS]": 2, "[SEP]": 3, "far": 2**31}))


def test_sizes_and_types_are_bounded(tokens, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="must be the text of a tokenizer.json.*Received: bytes"):
        Tokenizer(b"{}")
    tokens.save_assets(str(tmp_path))
    monkeypatch.setattr(tokenizer, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="must not be larger than 100 bytes"):
        tokens.load_assets(str(tmp_path))
    with pytest.raises(ValueError, match="at most 100 characters"):
        Tokenizer(tokens.to_json())
    (tmp_path / "tokenizer.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="must be UTF-8"):
        tokens.load_assets(str(tmp_path))


def test_special_tokens_must_be_in_the_vocabulary():
    with pytest.raises(ValueError, match=r"Received: pad_token='<pad>', cls_token='<s>'. Correct"):
        Tokenizer(word_piece(WORDS).to_json(), pad_token="<pad>", cls_token="<s>")


def test_it_is_found_from_kerashub_by_the_encoder(tokens, tmp_path):
    from keras_addnorm.models import TransformerEncoder
    from tests.common import TINY_ENCODER

    TransformerEncoder(**TINY_ENCODER).save_to_preset(str(tmp_path))
    tokens.save_to_preset(str(tmp_path))
    loaded = keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path))
    assert type(loaded) is Tokenizer and loaded(["a cat"]) == [[5, 6]]
    assert os.listdir(tmp_path / "assets" / "tokenizer") == ["tokenizer.json"]
