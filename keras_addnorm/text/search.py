"""The nearest embeddings by cosine, exactly, in memory that does not grow with the corpus."""

import numpy as np

CHUNK = 2**16  # rows of the corpus whose scores are computed at once
QUERIES = 64  # at once: a chunk's scores then take 16 MiB


def top_k(queries, corpus, k, normalized=False):
    """Finds the rows of a corpus that are most similar to each query.

    Args:
        queries: float array `(q, dimension)`.
        corpus: float array `(n, dimension)` of any precision; may be a memory map.
        k: int, how many to find.
        normalized: bool, whether all rows have length 1, so that a product is a cosine.

    Returns:
        `(indices, cosines)`: int64 and float32 arrays `(q, min(k, n))`, the most similar first;
        equal ones in the order of the corpus.

    Raises:
        ValueError: if shapes or dtypes do not fit, or the corpus holds NaN or infinity.

    Example:

    ```python
    indices, cosines = top_k(embedder.embed(["a kitten"]), corpus, k=3)
    ```
    """
    queries, corpus = np.asarray(queries), np.asanyarray(corpus)
    _check(queries, corpus, k)
    k = min(k, len(corpus))
    queries = queries.astype("float32")
    if not normalized:
        queries = queries / _norms(queries)[:, None]
    parts = [
        _search(queries[start : start + QUERIES], corpus, k, normalized)
        for start in range(0, len(queries), QUERIES)
    ]
    empty = np.empty((0, k), "int64"), np.empty((0, k), "float32")
    indices, scores = zip(empty, *parts, strict=True)
    return np.concatenate(indices), np.concatenate(scores)


def _search(queries, corpus, k, normalized):
    indices = np.empty((len(queries), 0), "int64")
    scores = np.empty((len(queries), 0), "float32")
    for start in range(0, len(corpus), CHUNK):
        rows = np.asarray(corpus[start : start + CHUNK], "float32")
        found = queries @ rows.T  # (queries, rows)
        if not normalized:
            found /= _norms(rows)
        if not np.isfinite(found).all():
            raise ValueError(
                "`corpus` must hold finite numbers. Received: NaN or infinity in rows "
                f"{start} to {start + len(rows) - 1}, or in the queries. Leave those rows out."
            )
        chosen = _best(found, k)
        scores = np.concatenate([scores, np.take_along_axis(found, chosen, 1)], axis=1)
        indices = np.concatenate([indices, chosen + start], axis=1)
        kept = _best(scores, k)  # Earlier rows stand before later ones, so ties stay in order.
        scores = np.take_along_axis(scores, kept, 1)
        indices = np.take_along_axis(indices, kept, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(scores, order, 1)


def _best(scores, k):
    """Positions of the k highest of each row, ascending; of equal ones the first."""
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    lowest = np.partition(scores, -k, axis=1)[:, -k]
    return np.stack([_first(row, bound, k) for row, bound in zip(scores, lowest, strict=True)])


def _first(row, bound, k):
    above = np.flatnonzero(row > bound)
    equal = np.flatnonzero(row == bound)[: k - len(above)]
    return np.sort(np.concatenate([above, equal]))


def _norms(rows):
    return np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), np.float32(1e-12))


def _check(queries, corpus, k):
    for name, array in (("queries", queries), ("corpus", corpus)):
        if array.ndim != 2 or array.dtype.kind != "f":
            raise ValueError(
                f"`{name}` must be a float array of two axes. Received: {array.dtype} of shape "
                f"{array.shape}. Pass what Embedder.embed returns."
            )
    if queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            "`queries` and `corpus` must have embeddings of one size. Received: "
            f"{queries.shape[1]} and {corpus.shape[1]}. Embed both with the same model."
        )
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"`k` must be a positive int. Received: k={k!r}. Pass for instance 10.")
