"""The main job on real input: all-MiniLM-L6-v2 from disk to verified files that embed sentences."""

import pathlib

import numpy as np
import pytest

from keras_addnorm import export, zoo
from keras_addnorm.export.embed import embed_texts
from keras_addnorm.export.pipeline import keras_function
from keras_addnorm.export.runtime import open_model
from keras_addnorm.export.samples import tokenize
from keras_addnorm.export.verify import compare
from tests.zoo.common import needs_weights

pytestmark = needs_weights
SENTENCES = pathlib.Path(__file__).parents[1] / "examples" / "data" / "sentences.txt"


@pytest.fixture(scope="module")
def embedder():
    return zoo.from_hugging_face("minilm", task="embed")


@pytest.fixture(scope="module")
def sentences(embedder):
    """100 real sentences of 4 to 51 tokens as inputs, and their embeddings by Keras."""
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()
    inputs = tokenize(embedder.preprocessor, texts, 128)
    tokens = inputs["padding_mask"].sum(axis=1)
    assert len(texts) == 100 and tokens.min() == 4 and tokens.max() >= 50
    return inputs, keras_function(embedder)(inputs)["embedding"]


def test_float32(tmp_path, embedder, sentences):
    report = export.to_tflite(embedder, tmp_path / "m.tflite")
    inputs, expected = sentences
    difference = compare(expected, open_model(tmp_path / "m.tflite")(inputs)["embedding"])
    assert difference.max_abs_error <= 1e-4
    assert report.xnnpack_partitions == 1


def test_dynamic_int8(tmp_path, embedder, sentences):
    report = export.to_tflite(embedder, tmp_path / "m.tflite", quantization="dynamic_int8")
    inputs, expected = sentences
    difference = compare(expected, open_model(tmp_path / "m.tflite")(inputs)["embedding"])
    assert difference.min_cosine >= 0.99
    assert report.bytes <= 23_000_000
    assert report.xnnpack_partitions == 1


def test_float32_of_any_length(tmp_path, embedder):
    report = export.to_tflite(embedder, tmp_path / "m.tflite", sequence_length=None)
    assert report.xnnpack_partitions == 1
    texts = ["A cat sleeps.", "The kitten naps beside the window."]
    embeddings, cut = embed_texts(tmp_path / "m.tflite", texts)
    assert cut == []
    np.testing.assert_allclose(embeddings, embedder.encode_text(texts), atol=1e-5)


def test_saved_model(tmp_path, embedder, sentences):
    export.to_saved_model(embedder, tmp_path / "m")
    inputs, expected = sentences
    actual = open_model(tmp_path / "m")(inputs)["embedding"]
    assert compare(expected, actual).max_abs_error <= 1e-5


def test_similar_sentences_are_nearest(embedder):
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()[:6]  # Three pairs of paraphrases.
    vectors = embedder.encode_text(texts)
    similarity = vectors @ vectors.T - 2 * np.eye(6)
    assert similarity.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]
