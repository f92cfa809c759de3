"""The tokenizer as a graph has the ids of the `tokenizers` library."""

import json
import random
import unicodedata

import pytest
import tensorflow as tf

from keras_addnorm.export.text_graph.check import ODD_TEXTS, random_texts
from keras_addnorm.export.text_graph.word_piece import WordPieceGraph
from keras_addnorm.models import Tokenizer
from tests.common import word_piece
from tests.export.common import VOCABULARY
from tests.zoo.common import needs_weights

PIECES = [
    "un",
    "##aff",
    "##able",
    "##a",
    "##f",
    "##fa",
    "a",
    "f",
    "\u00e9",
    "e",
    "##e",
    "\u4e2d",
    "\u03c3",
]
MARKS = ["\u1100", "##\u1161", "i", "##\u0307", "##\u0301", "##\u00e9", "E", "##E", "\U0001f642"]


def roles(tokenizer):
    return {role: getattr(tokenizer, role) for role in tokenizer._special_token_attrs}


def changed(tokenizer, change):
    """The tokenizer with a change in its JSON."""
    settings = json.loads(tokenizer.to_json())
    change(settings)
    return Tokenizer(json.dumps(settings), **roles(tokenizer))


def assert_same_ids(tokenizer, texts, max_length=32):
    graph = tf.function(
        WordPieceGraph(tokenizer, max_length), input_signature=[tf.TensorSpec([None], "string")]
    )
    made = {name: value.numpy() for name, value in graph(tf.constant(texts)).items()}
    for row, encoding in enumerate(tokenizer.encode(texts, max_length=max_length)):
        size = len(encoding.ids)
        assert made["token_ids"][row, :size].tolist() == encoding.ids, texts[row]
        assert (made["token_ids"][row, size:] == tokenizer.pad_token_id).all()
        assert made["padding_mask"][row].sum() == made["padding_mask"][row, :size].sum() == size
    assert not made["segment_ids"].any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"lowercase": False, "strip_accents": True},
        {"strip_accents": False},
        {"handle_chinese_chars": False},
        {"clean_text": False},
    ],
    ids=str,
)
def test_options_of_the_normalizer(options):
    tokenizer = word_piece([*VOCABULARY, *PIECES, *MARKS], **options)
    own = [
        "unaffable unaffa unaf \u00c9\u0301 e\u0301 \uac00 I\u0307\u0130 \u4e2da\u4e2d \U0001f642E"
    ]
    assert_same_ids(tokenizer, [*own, *ODD_TEXTS, *random_texts(tokenizer, seed=1)])


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_words_that_are_too_long(limit):
    tokenizer = changed(
        word_piece([*VOCABULARY, *PIECES]),
        lambda settings: settings["model"].update(max_input_chars_per_word=limit),
    )
    assert_same_ids(
        tokenizer, ["aaa a aaaa", "a" * 100, "a" * 101, "\u00e9\u00e9\u00e9 \u00e9", "aff"]
    )


def test_added_tokens_in_a_text():
    tokenizer = word_piece(VOCABULARY)
    tokenizer.tokenizer.add_special_tokens(["<a cat>", "\u00c9"])
    texts = [
        "a[SEP]cat [CLS",
        "<a cat>cat<a cat",
        "[MASK][MASK]",
        "\u00c9\u00e9\u00c9",
        "[[PAD]]",
        "[UNK]x",
    ]
    assert_same_ids(tokenizer, [*texts, *random_texts(tokenizer, seed=2)])


def test_batches_of_any_size():
    graph = WordPieceGraph(word_piece(VOCABULARY), 8)
    for texts in ([], [""], ["", ""], ["a cat"]):
        assert graph(tf.constant(texts, "string"))["token_ids"].shape[0] == len(texts)


def test_bytes_that_are_no_text_are_left_out():
    graph = WordPieceGraph(word_piece(VOCABULARY), 8)
    broken, whole = graph(tf.constant([b"a\xff\xfe cat\xc3", b"a cat"]))["token_ids"].numpy()
    assert broken.tolist() == whole.tolist()


@needs_weights
def test_all_characters_with_the_vocabulary_of_bert():
    """Each assigned code point inside a word and alone; and a thousand mixtures of them."""
    from keras_addnorm import zoo

    tokenizer = zoo.from_hugging_face("minilm", task="embed").preprocessor.tokenizer
    kinds = {code: unicodedata.category(chr(code)) for code in range(0x110000)}
    codes = [code for code, kind in kinds.items() if kind not in ("Cs", "Co", "Cn")]
    assert len(codes) > 140_000
    assert_same_ids(tokenizer, [f"x{chr(code)}y {chr(code)}" for code in codes])
    rng = random.Random(0)
    mixtures = ["".join(map(chr, rng.choices(codes, k=30))) for _ in range(500)]
    assert_same_ids(tokenizer, [*mixtures, *random_texts(tokenizer, 3, 500)], max_length=256)
