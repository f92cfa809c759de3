"""Preprocessors of the text tasks: labels that follow tokens, pairs, graphs, files, errors."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm import models
from keras_addnorm.models import (
    MaskedLMPreprocessor,
    QuestionAnsweringPreprocessor,
    TextClassifierPreprocessor,
    TextEmbedderPreprocessor,
    TokenClassifierPreprocessor,
    Tokenizer,
)
from tests.common import word_piece

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the", "?"]
TEXTS = ["A cat sat", "the dogs", "", "a cat sat the dogs sat the cats sat"]


@pytest.fixture(scope="module")
def tokenizer():
    return word_piece(WORDS)


def numpy(structure):
    return keras.tree.map_structure(np.asarray, structure)


def test_texts(tokenizer):
    preprocessor = TextEmbedderPreprocessor(tokenizer, sequence_length=6)
    got = numpy(preprocessor(TEXTS))
    np.testing.assert_array_equal(
        got["token_ids"],
        [[2, 5, 6, 7, 3, 0], [2, 10, 9, 8, 3, 0], [2, 3, 0, 0, 0, 0], [2, 5, 6, 7, 10, 3]],
    )
    np.testing.assert_array_equal(got["padding_mask"], got["token_ids"] != 0)
    assert {array.dtype.name for array in got.values()} == {"int32"}
    (one,) = [numpy(preprocessor(TEXTS[0]))]
    assert all((one[name] == got[name][0]).all() for name in got)
    x, y, weight = preprocessor(TEXTS, [1, 2, 3, 4], [0.5, 1, 1, 1])
    assert y == [1, 2, 3, 4] and weight == [0.5, 1, 1, 1]


def test_pairs_are_cut_at_the_longer_text_first(tokenizer):
    preprocessor = TextClassifierPreprocessor(tokenizer, sequence_length=7)
    expected = [2, 5, 6, 3, 10, 9, 3]
    for got in (
        preprocessor(("a cat", "the dogs sat")),  # KerasHub would take the second text for labels.
        numpy(preprocessor((["a cat"], ["the dogs sat"])))["token_ids"][0],
        preprocessor((["a cat"], ["the dogs sat"]), [1])[0],
    ):
        ids = np.ravel(got["token_ids"] if isinstance(got, dict) else got)
        np.testing.assert_array_equal(ids, expected)
    segments = preprocessor(("a cat", "the dogs sat"))["segment_ids"]
    np.testing.assert_array_equal(segments, [0, 0, 0, 0, 1, 1, 1])


def test_masked_tokens(tokenizer):
    keras.utils.set_random_seed(0)
    preprocessor = MaskedLMPreprocessor(
        tokenizer, 6, mask_selection_rate=0.9, mask_selection_length=3, mask_token_rate=1.0,
        random_token_rate=0.0,
    )  # fmt: skip
    x, labels, weights = numpy(preprocessor(TEXTS))
    whole = preprocessor.tokenize(TEXTS)["token_ids"]
    assert weights.sum(axis=1).tolist()[2] == 0 and 3 <= weights.sum() <= 9
    restored = x["token_ids"].copy()
    for row, (positions, values, real) in enumerate(
        zip(x["mask_positions"], labels, weights.astype(bool), strict=True)
    ):
        assert (restored[row, positions[real]] == 4).all()
        restored[row, positions[real]] = values[real]
    np.testing.assert_array_equal(restored, whole)
    np.testing.assert_array_equal(x["padding_mask"], whole != 0)


def test_labels_follow_the_first_tokens_of_words(tokenizer):
    preprocessor = TokenClassifierPreprocessor(tokenizer, sequence_length=7)
    words = [["The", "dogs", "sat"], ["cats"], ["a", "a", "a", "a", "cats", "a", "a"]]
    labels = [[1, 2, -100], [3], [4, 5, 6, 7, 8, 9, 1]]
    x, y = numpy(preprocessor(words, labels))
    np.testing.assert_array_equal(x["token_ids"][0], [2, 10, 9, 8, 7, 3, 0])
    expected = [[0, 1, 2, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0, 0], [0, 4, 5, 6, 7, 8, 0]]
    np.testing.assert_array_equal(np.where(y == -100, 0, y), expected)
    assert y.dtype == "int32" and set(y[np.array(expected) == 0]) == {-100}
    np.testing.assert_array_equal(preprocessor.word_ids(words)[0], [-1, 0, 1, 1, 2, -1, -1])
    alone = numpy(preprocessor(words))
    np.testing.assert_array_equal(alone["token_ids"], x["token_ids"])


def test_offsets_read_predictions_back(tokenizer):
    preprocessor = TokenClassifierPreprocessor(tokenizer, sequence_length=7)
    text = "The  dogs sat"
    offsets = preprocessor.offsets([text])[0]
    parts = [text[start:end] for start, end in offsets if end > start]
    assert parts == ["The", "dog", "s", "sat"]
    np.testing.assert_array_equal(offsets[[0, 5, 6]], -1)
    np.testing.assert_array_equal(preprocessor(text)["token_ids"], [2, 10, 9, 8, 7, 3, 0])


def test_answers_become_positions_and_back(tokenizer):
    preprocessor = QuestionAnsweringPreprocessor(tokenizer, sequence_length=9)
    context = "a cat sat the dogs"
    x = (["the ?"] * 4, [context] * 4)
    starts = [context.index(s) for s in ("cat", "sat", "dogs")] + [-1]
    ends = [start + length for start, length in zip(starts, (7, 3, 4, 0), strict=True)]
    inputs, y = numpy(preprocessor(x, (starts, ends)))
    # [CLS] the ? [SEP] a cat sat the [SEP]: the dogs are cut off; the last has no answer.
    np.testing.assert_array_equal(inputs["token_ids"][0], [2, 10, 11, 3, 5, 6, 7, 10, 3])
    np.testing.assert_array_equal(y["start_logits"], [5, 6, 0, 0])
    np.testing.assert_array_equal(y["end_logits"], [6, 6, 0, 0])
    found = preprocessor.answers(x, y["start_logits"], y["end_logits"])
    assert found == ["cat sat", "sat", "", ""]
    assert preprocessor.answers(x, [6, 1, 5, 8], [5, 5, 5, 8]) == ["", "", "cat", ""]
    offsets = preprocessor.offsets(x)
    assert offsets.shape == (4, 9, 2) and (offsets[0, [0, 1, 2, 3, 8]] == -1).all()


def test_half_an_answer_is_none(tokenizer):
    preprocessor = QuestionAnsweringPreprocessor(tokenizer, sequence_length=6)
    _, y = numpy(preprocessor((["?"], ["a cat sat"]), ([2], [9])))  # "sat" is cut off
    assert (y["start_logits"], y["end_logits"]) == ([0], [0])


def graph_cases(tokenizer):
    ragged = tf.ragged.constant
    contexts = ["a cat sat", "the dogs", "dog", "cats sat"]
    return {
        "embed": (TextEmbedderPreprocessor(tokenizer, 6), (TEXTS, np.arange(4))),
        "pairs": (TextClassifierPreprocessor(tokenizer, 8), ((TEXTS, contexts), np.arange(4))),
        "masks": (MaskedLMPreprocessor(tokenizer, 6, 0.0, 2), TEXTS),
        "words": (
            TokenClassifierPreprocessor(tokenizer, 6),
            (ragged([["the", "dogs"], ["a"], ["cat"], []]), ragged([[1, 2], [3], [4], []])),
        ),
        "answers": (
            QuestionAnsweringPreprocessor(tokenizer, 9),
            ((["the ?", "?", "?", "?"], contexts), ([2, 0, -1, 5], [5, 8, 0, 8])),
        ),
    }


@pytest.mark.parametrize("name", ["embed", "pairs", "masks", "words", "answers"])
def test_a_dataset_gives_what_a_call_gives(tokenizer, name):
    preprocessor, data = graph_cases(tokenizer)[name]
    expected = numpy(preprocessor(*data) if isinstance(data, tuple) else preprocessor(data))
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(3).map(preprocessor)
    for spec in tf.nest.flatten(dataset.element_spec):
        assert spec.shape[0] is None and None not in spec.shape[1:]
    batches = [tf.nest.flatten(batch) for batch in dataset.as_numpy_iterator()]
    for got, want in zip(zip(*batches, strict=True), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(np.concatenate(got), want)


def test_a_dataset_of_single_texts(tokenizer):
    preprocessor = TextEmbedderPreprocessor(tokenizer, 6)
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS).map(preprocessor)
    assert dataset.element_spec["token_ids"].shape == (6,)
    rows = [row["token_ids"] for row in dataset.as_numpy_iterator()]
    np.testing.assert_array_equal(rows, preprocessor(TEXTS)["token_ids"])


def test_a_grain_dataset(tokenizer):
    grain = pytest.importorskip("grain")
    preprocessor = TextEmbedderPreprocessor(tokenizer, 6)
    (row, *_) = grain.MapDataset.source(TEXTS).map(preprocessor)
    np.testing.assert_array_equal(row["token_ids"], [2, 5, 6, 7, 3, 0])


@pytest.mark.parametrize(
    "cls",
    [
        TextEmbedderPreprocessor,
        TextClassifierPreprocessor,
        TokenClassifierPreprocessor,
        QuestionAnsweringPreprocessor,
        MaskedLMPreprocessor,
    ],
)
def test_presets(tokenizer, cls, tmp_path):
    from tests.common import TINY_ENCODER

    kwargs = {"mask_selection_rate": 0.3} if cls is MaskedLMPreprocessor else {}
    preprocessor = cls(tokenizer, sequence_length=9, **kwargs)
    models.TransformerEncoder(**TINY_ENCODER).save_to_preset(str(tmp_path))
    preprocessor.save_to_preset(str(tmp_path))
    loaded = cls.from_preset(str(tmp_path))
    assert type(loaded) is cls and loaded.get_config() == preprocessor.get_config()
    assert loaded.tokenizer(["a cat"]) == [[5, 6]]
    for base in ("TextEmbedder", "TextClassifier", "MaskedLM"):
        if cls.__name__ == f"{base}Preprocessor":
            found = getattr(keras_hub.models, cls.__name__).from_preset(str(tmp_path))
            assert type(found) is cls
    other = TextClassifierPreprocessor.from_preset(str(tmp_path), sequence_length=5)
    assert type(other) is TextClassifierPreprocessor and other.sequence_length == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: TextEmbedderPreprocessor(None), "must be a keras_addnorm Tokenizer"),
        (lambda t: TextEmbedderPreprocessor(t, 0), "`sequence_length` must be a whole number"),
        (lambda t: TextEmbedderPreprocessor(t, truncate="x"), "has no argument `truncate`"),
        (lambda t: TextEmbedderPreprocessor(t, 2)("a"), "must be at least 3"),
        (lambda t: TextEmbedderPreprocessor(t)(("a", "b", "c"), 1), "Received: a tuple of 3"),
        (lambda t: TextEmbedderPreprocessor(Tokenizer(t.to_json()))("a"), "have a `pad_token`"),
        (lambda t: MaskedLMPreprocessor(t, mask_token_rate=2), "`mask_token_rate` must be from 0"),
        (lambda t: MaskedLMPreprocessor(t)("a", 1), "`y` and `sample_weight` must be None"),
        (
            lambda t: MaskedLMPreprocessor(Tokenizer(t.to_json(), pad_token="[PAD]"))(["a"]),
            "have a `mask_token`",
        ),
        (lambda t: TokenClassifierPreprocessor(t)(["a b"], [[1, 2]]), "a list of lists of words"),
        (lambda t: TokenClassifierPreprocessor(t)([["a", "b"]], [[1]]), "2 words and 1 labels"),
        (lambda t: QuestionAnsweringPreprocessor(t)(["a"]), "a tuple (questions, contexts)"),
        (lambda t: QuestionAnsweringPreprocessor(t)((["a"], ["b"]), [0]), "tuple (starts, ends)"),
        (lambda t: QuestionAnsweringPreprocessor(t, 6)(("a a a", "b")), "a question of 3 tokens"),
    ],
    ids=range(14),
)
def test_errors_say_the_rule_and_the_fix(tokenizer, make, message):
    with pytest.raises(ValueError) as error:
        make(tokenizer)
    assert message in str(error.value)


def test_words_for_a_tokenizer_that_would_join_them():
    from tokenizers import ByteLevelBPETokenizer

    for prefix in (False, True):
        raw = ByteLevelBPETokenizer({"a": 0, "Ġa": 1, "Ġ": 2}, [], add_prefix_space=prefix)
        preprocessor = TokenClassifierPreprocessor(Tokenizer(raw.to_str(), pad_token="Ġ"), 4)
        if prefix:
            np.testing.assert_array_equal(preprocessor([["a", "a"]])["token_ids"], [[2, 0, 2, 0]])
        else:
            with pytest.raises(ValueError, match="Set add_prefix_space to true"):
                preprocessor([["a", "a"]])
