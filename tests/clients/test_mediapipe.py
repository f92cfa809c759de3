"""MediaPipe's TextEmbedder and TextClassifier on our files, which hold all that these need.

The wheel ships no source. What it does was read in MediaPipe's repository, and is asserted here.
"""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm import export, models
from keras_addnorm.export.metadata import Metadata
from keras_addnorm.export.metadata.tokenizer import media_pipe_vocabulary
from keras_addnorm.export.runtime import LiteRTModel
from keras_addnorm.export.verify import compare
from tests.export import common

# Both run the same kernels on the same ids: any difference is another file or other ids.
EQUAL = 1e-6
FORMS = [(q, length) for q in ("float32", "dynamic_int8") for length in (None, 64)]
CORPUS = pathlib.Path(__file__).parents[1] / "zoo" / "data" / "corpus.txt"
LABELS = ["negative", "neutral", "très positif"]


@pytest.fixture
def mediapipe(ask):
    """Runs a task of MediaPipe on a file and texts; returns its results."""

    def mediapipe(task, path, texts=()):
        reply = ask("mediapipe", task=task, file=str(path), texts=list(texts))
        assert "error" not in reply, reply["error"]
        return reply["results"]

    return mediapipe


@pytest.fixture(scope="module")
def classifier(embedder):
    """A classifier with the weights of MiniLM's encoder and a random head."""
    preprocessor = models.TextClassifierPreprocessor(embedder.preprocessor.tokenizer, 256)
    task = models.TextClassifier(
        embedder.backbone, 3, preprocessor=preprocessor, pooling="mean", labels=LABELS
    )
    rng = np.random.default_rng(0)
    for weight in task.head.weights:
        weight.assign(rng.normal(0.0, 1.0, weight.shape))
    return task


@pytest.fixture(scope="module")
def embedded(embedder, sentences):
    """The sentences' embeddings by Keras."""
    return embedder.encode_text(sentences)


def interpreter(path, model, texts, length, name):
    """What LiteRT's interpreter gives for a model's own ids, one text a call as in MediaPipe."""
    run = LiteRTModel(path, num_threads=1)
    found = []
    for text in texts:
        size = length or len(model.preprocessor.encode([text])[0].ids)
        found.append(run(model.preprocessor.tokenize([text], size))[name][0])
    return np.array(found)


@pytest.mark.parametrize("quantization, length", FORMS)
def test_the_embedder(mediapipe, minilm, embedder, sentences, embedded, quantization, length):
    path = minilm(quantization=quantization, sequence_length=length, metadata=True)
    found = np.array(mediapipe("embed", path, sentences))
    expected = interpreter(path, embedder, sentences, length, "embedding")
    assert np.abs(found - expected).max() <= EQUAL
    difference, recipe = compare(embedded, found), export.RECIPES[quantization]
    assert difference.max_scaled_error <= recipe.max_error
    assert difference.min_cosine >= recipe.min_cosine


@pytest.mark.parametrize("quantization, length", FORMS)
def test_the_classifier(mediapipe, tmp_path, classifier, sentences, quantization, length):
    path = tmp_path / "m.tflite"
    options = {"quantization": quantization, "sequence_length": length, "metadata": True}
    export.to_tflite(classifier, path, **options)
    found = [dict(row) for row in mediapipe("classify", path, sentences)]
    scores = np.array([[row[label] for label in LABELS] for row in found])
    expected = interpreter(path, classifier, sentences, length, "probabilities")
    assert np.abs(scores - expected).max() <= EQUAL
    assert np.allclose(scores.sum(axis=1), 1.0, atol=1e-5)
    if quantization == "float32":
        best = [row[0][0] for row in classifier.classify(sentences)]
        assert [max(row, key=row.get) for row in found] == best and len(set(best)) > 1


def test_a_model_without_segments(mediapipe, tmp_path):
    """MediaPipe passes segment_ids to every model; the file takes them and does not use them."""
    task = common.embedder()
    encoder = common.encoder()
    task = models.TextEmbedder(encoder, preprocessor=task.preprocessor)
    assert sorted(encoder.input) == ["padding_mask", "token_ids"]
    texts = ["a cat sits on the mat.", "how do i reset my password?"]
    export.to_tflite(task, tmp_path / "m.tflite", metadata=True)
    found = mediapipe("embed", tmp_path / "m.tflite", texts)
    np.testing.assert_allclose(found, task.encode_text(texts), atol=1e-5)


def test_texts_that_are_longer_than_the_model_takes(mediapipe, minilm, embedder):
    """A file of any length cuts at the model's 512 positions, one of 64 tokens at 64."""
    text = " ".join(f"{word} {n}" for n, word in enumerate(["long", "text", "of", "words"] * 200))
    for length in (None, 64):
        path = minilm(quantization="float32", sequence_length=length, metadata=True)
        (found,) = mediapipe("embed", path, [text])
        inputs = embedder.preprocessor.tokenize([text], length or 512)
        expected = np.asarray(embedder(inputs))[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_media_pipes_own_code_reads_the_same_metadata(mediapipe, tmp_path, classifier):
    export.to_tflite(
        classifier, tmp_path / "m.tflite", metadata={"license": "Apache-2.0"}, verify=False
    )
    found = mediapipe("describe", tmp_path / "m.tflite")
    assert sorted(found.pop("inputs")) == ["ids", "mask", "segment_ids"]
    assert found == {
        "license": "Apache-2.0",
        "min_parser_version": "1.1.0",
        "output": "probabilities",
        "tokenizer": "BertTokenizerOptionsT",
        "vocabulary": [["vocab.txt", 5]],
        "labels": [["labels.txt", 2]],
        "files": ["report.json"],
    }


# The tokenizer, seen through a file whose embedding is the ids that it got


@pytest.fixture(scope="module")
def probe(embedder, tmp_path_factory):
    """A file that returns its ids, and -1 for padding, with MiniLM's vocabulary."""

    class Probe(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec((1, 400), tf.int32, name=name)
                for name in ("token_ids", "padding_mask", "segment_ids")
            ]
        )
        def ids(self, token_ids, padding_mask, segment_ids):
            ids = token_ids * padding_mask + padding_mask - 1 + segment_ids
            return {"embedding": tf.cast(ids, tf.float32)}

    module = Probe()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.ids.get_concrete_function()], module
    )
    path = tmp_path_factory.mktemp("probe") / "probe.tflite"
    metadata = Metadata({}, media_pipe_vocabulary(embedder.preprocessor.tokenizer))
    path.write_bytes(metadata.written(converter.convert()))
    report = export.to_tflite(common.embedder(), path.with_name("m.tflite"), verify=False)
    metadata.attach(path, report)
    return path


@pytest.fixture
def both(mediapipe, probe, embedder):
    """Tokens of texts by Hugging Face, and by MediaPipe."""
    tokenizer = embedder.preprocessor.tokenizer

    def both(texts, given=None):
        ours = [e.tokens for e in tokenizer.encode(texts, max_length=400)]
        theirs = mediapipe("embed", probe, texts if given is None else given)
        return ours, [[tokenizer.id_to_token(int(i)) for i in ids if i >= 0] for ids in theirs]

    return both


def test_real_sentences_have_the_same_tokens(both, sentences):
    ours, theirs = both(sentences)
    assert ours == theirs


SAME = [
    *("The cat sat, didn't it? (yes) 3.5% HELLO", "a漢b 漢字", "straße ﬁne", "я" * 50, "a" * 101),
    *("a 😀 b hi😀 🇩🇪 1️⃣ ❤️", "“a”—b…c", "a€b ™ × ÷ a+b=c $5 ~`^", "สวัสดี", "", "   ", "カタカナ"),
]


def test_where_the_tokens_are_the_same(both):
    ours, theirs = both(SAME)
    assert ours == theirs


# The README's table of differences: a class of texts, one of them, and its tokens by MediaPipe.
UNKNOWN = ["[UNK]"]
DIFFERENT = {
    "letters with accents": [("café", UNKNOWN), ("cafe\u0301", UNKNOWN), ("Nguyễn", UNKNOWN)],
    "marks and letters that NFD splits": [
        *((text, UNKNOWN) for text in ("한국어", "です", "كَيْفَ", "नमस्ते", "שָׁלוֹם"))
    ],
    "capitals other than A to Z": [("ПРИВЕТ", UNKNOWN), ("ΟΔΟΣ", UNKNOWN), ("É", UNKNOWN)],
    "spaces other than ASCII's": [
        *((f"a{space}b", UNKNOWN) for space in "\u00a0\u2009\u3000\u2028\v\x85")
    ],
    "form feed": [("a\fb", ["a", "b"])],
    "characters of no width, controls": [
        *((f"a{x}b", UNKNOWN) for x in "\u200b\u200d\ufeff\u00ad\x07\x7f\ufffd\ue000")
    ],
    "NUL": [("a\0b", ["a"])],
    "special tokens, written out": [
        ("[MASK]", ["[", "mask", "]"]),
        ("[CLS]", ["[", "cl", "##s", "]"]),
    ],
    "words of more than 100 bytes": [("я" * 51, UNKNOWN), ("ア" * 34, UNKNOWN)],
    "punctuation since Unicode 9": [("a\u2e43b", ["a", *UNKNOWN, "b"])],
    "U+2B820 to U+2B91F": [("\U0002b820a", [*UNKNOWN, "a"])],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_where_the_tokens_differ(both, kind):
    texts = [text for text, _ in DIFFERENT[kind]]
    ours, theirs = both(texts)
    assert [tokens[1:-1] for tokens in theirs] == [tokens for _, tokens in DIFFERENT[kind]]
    assert all(a != b for a, b in zip(ours, theirs, strict=True))


# What stays different where a text is normalized as BERT does before MediaPipe gets it.
STAYS = (
    *("special tokens, written out", "words of more than 100 bytes"),
    *("punctuation since Unicode 9", "U+2B820 to U+2B91F"),
)


@pytest.mark.parametrize("kind", DIFFERENT)
def test_a_text_that_is_normalized_before(both, embedder, kind):
    """The cure for most: the application does what BERT's normalizer does."""
    normalize = embedder.preprocessor.tokenizer.tokenizer.normalizer.normalize_str
    texts = [text for text, _ in DIFFERENT[kind]]
    ours, theirs = both(texts, [normalize(text) for text in texts])
    assert all((a == b) == (kind not in STAYS) for a, b in zip(ours, theirs, strict=True))


def test_the_corpus_normalized_before(both, embedder):
    """Of 58 hard texts: 31 have other tokens, and 2 where they are normalized before."""
    normalize = embedder.preprocessor.tokenizer.tokenizer.normalizer.normalize_str
    texts = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    counts = [
        sum(a != b for a, b in zip(*both(texts, given), strict=True))
        for given in (texts, [normalize(text) for text in texts])
    ]
    assert len(texts) == 58 and counts == [31, 2]
