"""The nearest rows, compared with a full sort in float64."""

import numpy as np
import pytest

from keras_addnorm.text import search, top_k


def sorted_all(queries, corpus, k):
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (queries, corpus)]
    scores = unit[0] @ unit[1].T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, 1)


@pytest.mark.parametrize("k", [1, 5, 100, 299, 300, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_the_same_as_sorting_everything(rng, monkeypatch, k, dtype):
    monkeypatch.setattr(search, "CHUNK", 64)
    monkeypatch.setattr(search, "QUERIES", 3)
    corpus, queries = rng.normal(size=(300, 16)).astype(dtype), rng.normal(size=(7, 16))
    indices, cosines = top_k(queries, corpus, k)
    order, scores = sorted_all(queries, corpus.astype("float64"), k)
    assert indices.dtype == "int64" and cosines.dtype == "float32"
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(cosines, scores, atol=1e-6)


@pytest.mark.parametrize("chunk", [2, 3, 5, 100])
def test_ties_stay_in_order(monkeypatch, chunk):
    monkeypatch.setattr(search, "CHUNK", chunk)
    # Products of these are exact, so equal rows have equal scores.
    corpus = np.array([[0, 1], [1, 0], [0, 1], [1, 0], [-1, 0], [1, 0], [0, 1]], "float32")
    indices, cosines = top_k(np.array([[1.0, 0.0]]), corpus, 5, normalized=True)
    assert indices.tolist() == [[1, 3, 5, 0, 2]] and cosines.tolist() == [[1, 1, 1, 0, 0]]


def test_a_memory_map_and_nothing(rng, tmp_path):
    corpus = rng.normal(size=(50, 8)).astype("float32")
    np.save(tmp_path / "corpus.npy", corpus)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    assert top_k(corpus[7:8], mapped, 1)[0].tolist() == [[7]]
    assert [a.shape for a in top_k(corpus[:2], corpus[:0], 3)] == [(2, 0), (2, 0)]
    assert [a.shape for a in top_k(corpus[:0], corpus, 3)] == [(0, 3), (0, 3)]
    assert np.isfinite(top_k(corpus[:1], np.zeros((3, 8)), 2)[1]).all()


@pytest.mark.parametrize(
    "queries, corpus, k, message",
    [
        (np.zeros(4), np.zeros((2, 4)), 1, "`queries` must be a float array of two axes"),
        (np.zeros((1, 4)), np.zeros((2, 4), int), 1, "`corpus` must be a float array"),
        (np.zeros((1, 4)), np.zeros((2, 5)), 1, "Received: 4 and 5"),
        (np.zeros((1, 4)), np.zeros((2, 4)), 0, "`k` must be a positive int. Received: k=0"),
        (np.ones((1, 4)), np.full((2, 4), np.nan), 1, "NaN or infinity in rows 0 to 1"),
        (np.full((1, 4), np.nan), np.ones((2, 4)), 1, "or in the queries"),
    ],
)
def test_refusals(queries, corpus, k, message):
    with pytest.raises(ValueError, match=message):
        top_k(queries, corpus, k)
