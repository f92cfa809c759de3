"""Scores of content with distances, the part of attention that DeBERTa adds.

    scores[i, j] = (q_i k_j + q_i relative_keys[j - i] + k_j relative_queries[i - j])
                   / sqrt(key_dim * (1 + number of added terms))

A row of content is compared with the vectors of all distances in one matrix product. The score of
key j is then the one of distance j - i: row i is row 0 moved by i. That is a reshape to rows one
shorter, so a converted graph holds no gather and no tensor of rank 5.
"""

import dataclasses

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.masking import fits
from keras_addnorm.layers.shapes import positions, sizes

# The terms by their names in the paper, and the call argument of `MultiHeadAttention` that each
# needs, with its projection: content to position compares queries with the vectors of distances as
# keys, position to content compares keys with them as queries.
TERMS = {"c2p": ("relative_keys", "key"), "p2c": ("relative_queries", "query")}


@dataclasses.dataclass(frozen=True)
class Disentangled:
    """What is told `MultiHeadAttention` in `disentangled`.

    Attributes:
        terms: the added terms, one or both of `"c2p"` and `"p2c"`.
        share_projections: whether the projections of query and key make the vectors of distances
            too (DeBERTaV3); else `relative_query` and `relative_key` do.
        dropout: dropout rate on the vectors of distances while training.
    """

    terms: list = ("c2p", "p2c")
    share_projections: bool = True
    dropout: float = 0.0

    @classmethod
    def of(cls, layer, value):
        """From an argument of the attention `layer`; without terms for None."""
        if value is None:
            return cls(terms=())
        owner = "MultiHeadAttention"
        made = cls(**checks.options(owner, "disentangled", value, cls, ()))
        terms = made.terms
        if not isinstance(terms, (list, tuple)) or not terms or not set(terms) <= set(TERMS):
            raise ValueError(
                f"{owner}: the `terms` of `disentangled` must be one or both of 'c2p' and 'p2c'. "
                f"Received: terms={terms!r}. Leave out `disentangled` for none."
            )
        checks.boolean(owner, "share_projections", made.share_projections)
        checks.rate(owner, "dropout", made.dropout)
        others = [name for name in ("rotary", "qk_norm") if getattr(layer, name) is not None]
        if layer.num_key_value_heads != layer.num_heads:
            others.append("num_key_value_heads")
        if others:
            raise ValueError(
                f"{owner}: `disentangled` compares the heads of queries and keys with vectors of "
                "distances, which are not rotated, normalized or shared by heads. Received: "
                f"disentangled with {', '.join(others)}. Leave out one or the other."
            )
        return made

    @property
    def projections(self):
        """The projection of each call argument that the terms need."""
        prefix = "" if self.share_projections else "relative_"
        return {name: prefix + to for term, (name, to) in TERMS.items() if term in self.terms}

    @property
    def own_projections(self):
        """The names of the projections that are not those of content."""
        return [] if self.share_projections else list(self.projections.values())

    def checked(self, query, key, relative):
        """The call arguments that the terms need, after checking them."""
        lengths = (query.shape[1], key.shape[1])
        rows = None if None in lengths else sum(lengths)
        sizes = {"batch": query.shape[0], "queries + keys": rows, "features": query.shape[2]}
        for name, x in relative.items():
            if x is None and name in self.projections or x is not None and not self.terms:
                raise ValueError(
                    "MultiHeadAttention takes the outputs of RelativeEmbedding if and only if it "
                    "is `disentangled`: `relative_keys` for the term 'c2p', `relative_queries` "
                    f"for 'p2c'. Received: {name}={'none' if x is None else 'given'}, "
                    f"terms={list(self.terms)}. Pass both, or leave out `disentangled` and both."
                )
            if x is not None and not (fits(x.shape, sizes) and x.shape[1] in (rows, None)):
                raise ValueError(
                    f"MultiHeadAttention: `{name}` must have shape ({', '.join(sizes)}), here "
                    f"{tuple(sizes.values())}, or batch 1. Received: {name} of shape "
                    f"{tuple(x.shape)}. Pass the output of RelativeEmbedding for this length."
                )
        return {name: relative[name] for name in self.projections}


def skew(x, rows, columns):
    """Picks from scores of all distances that of each column: `y[..., i, j] = x[..., i, j - i + c]`
    with `c = rows - 1`.

    Args:
        x: tensor `(batch, heads, rows, rows + columns)`.
        rows, columns: ints, or scalar tensors where the length is known only at run time.

    Returns:
        Tensor `(batch, heads, rows, columns)`.
    """
    heads, width = x.shape[1], rows + columns - 1
    # Element (i, j - i + c) of rows with one element more is (i, j + c) of rows with one less.
    x = ops.reshape(x, (-1, rows * (width + 1)))  # [batch * heads, ..]
    x = ops.reshape(x[:, : rows * width], (-1, rows, width))
    return ops.reshape(x[:, :, rows - 1 :], (-1, heads, rows, columns))


def _picked(x, query, key):
    """`skew` of scores for the positions of two tensors; a gather where lengths are symbolic."""
    if not isinstance(x, keras.KerasTensor):
        return skew(x, sizes(query)[1], sizes(key)[1])
    rows, columns = positions(query), positions(key)
    where = ops.subtract(ops.expand_dims(columns, 0), ops.expand_dims(rows, 1))
    where = ops.add(where, ops.max(rows))  # [rows, columns]
    return ops.take_along_axis(x, ops.expand_dims(ops.expand_dims(where, 0), 0), axis=-1)


def distance_scores(q, k, relative, query, key):
    """The sum of the terms that there are vectors for.

    Args:
        q: float32 tensor `(batch, heads, queries, key_dim)`.
        k: float32 tensor `(batch, heads, key_dim, keys)`.
        relative: dict of `relative_keys`, `relative_queries` or both: float32 tensors `(batch or
            1, heads, key_dim, queries + keys)`.
        query, key: the tensors `(batch, length, features)` that attention is called with.

    Returns:
        float32 tensor `(batch, heads, queries, keys)`.
    """
    terms = []
    if "relative_keys" in relative:
        terms.append(_picked(ops.matmul(q, relative["relative_keys"]), query, key))
    if "relative_queries" in relative:
        k = ops.transpose(k, (0, 1, 3, 2))
        scores = _picked(ops.matmul(k, relative["relative_queries"]), key, query)
        terms.append(ops.transpose(scores, (0, 1, 3, 2)))
    return terms[0] if len(terms) == 1 else ops.add(*terms)
