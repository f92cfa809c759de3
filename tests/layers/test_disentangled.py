"""Disentangled attention against the float64 reference and KerasHub's, and its own rules."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import MultiHeadAttention, RelativeEmbedding
from keras_addnorm.layers.disentangled import skew
from keras_addnorm.layers.relative_embedding import distance_rows
from tests import reference
from tests.backends import traced
from tests.common import randomize, to_numpy, weights_of

# float32 sums of some ten products of values around 1, in another order than the reference.
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0]])
OPTIONS = [
    {},
    {"terms": ["c2p"]},
    {"terms": ["p2c"], "dropout": 0.3},
    {"share_projections": False},
    {"terms": ["p2c"], "share_projections": False},
]
BUCKETS = [
    {"bucket_size": 4, "max_distance": 8},
    {"bucket_size": 3, "max_distance": 4},
    {"bucket_size": None, "max_distance": 3},
    {"bucket_size": None, "max_distance": 20, "norm": "none"},
    {"bucket_size": 256, "max_distance": 512, "norm": "rms_norm", "epsilon": 1e-2},
]


def built(rng, x, options, **more):
    relative = RelativeEmbedding(4, 8)
    layer = MultiHeadAttention(4, key_dim=8, disentangled=options, **more)
    layer(x, **relative(x))
    return randomize(layer, rng), randomize(relative, rng)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scale_multiplies_every_term(rng, options):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer, relative = built(rng, x, options)
    own = MultiHeadAttention(4, key_dim=8, disentangled=options, scale=1.0)
    own(x, **relative(x))
    own.set_weights(layer.get_weights())
    scale = (8 * (1 + len(options.get("terms", ["c2p", "p2c"])))) ** -0.5
    queries = [own.query_dense, getattr(own, "relative_query_dense", None)]
    for weight in [w for dense in queries if dense is not None for w in dense.weights]:
        weight.assign(weight * scale)
    got = to_numpy(own(x, key_mask=MASK, **relative(x)))
    np.testing.assert_allclose(got, to_numpy(layer(x, key_mask=MASK, **relative(x))), **TOLERANCE)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values(rng, options):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer, relative = built(rng, x, options)
    vectors = relative(x)
    bias = rng.normal(size=(1, 4, 6, 6))
    arguments = {"key_mask": MASK, "position_bias": bias, **vectors}
    output, scores = layer(x, return_attention_scores=True, **arguments)
    want = reference.multi_head_attention(
        weights_of(layer),
        x,
        num_heads=4,
        disentangled=options,
        **{name: to_numpy(value) for name, value in arguments.items()},
    )
    np.testing.assert_allclose(to_numpy(scores), want[1], **TOLERANCE)
    np.testing.assert_allclose(to_numpy(output), want[0], **TOLERANCE)
    np.testing.assert_allclose(to_numpy(layer(x, **arguments)), want[0], **TOLERANCE)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (2, 5), (5, 2), (1, 4)])
def test_as_many_distances_as_queries_and_keys(rng, queries, keys):
    """Vectors of another batch, and lengths that differ."""
    x = rng.normal(size=(2, queries, 8)).astype("float32")
    y = rng.normal(size=(2, keys, 8)).astype("float32")
    vectors = {
        name: rng.normal(size=(2, queries + keys, 8)).astype("float32")
        for name in ("relative_keys", "relative_queries")
    }
    layer = MultiHeadAttention(2, disentangled={})
    layer(x, y, **vectors)
    randomize(layer, rng)
    want = reference.multi_head_attention(
        weights_of(layer), x, y, num_heads=2, disentangled={}, **vectors
    )
    np.testing.assert_allclose(to_numpy(layer(x, y, **vectors)), want[0], **TOLERANCE)


@pytest.mark.parametrize("options", BUCKETS, ids=str)
@pytest.mark.parametrize("length", [1, 2, 9])
def test_vectors_of_distances(rng, options, length):
    layer = RelativeEmbedding(**options)
    layer.build((None, None, 8))
    randomize(layer, rng)
    got = layer(np.zeros((2, length, 8), "float32"))
    options = {"kind": options.get("norm", "layer_norm"), **options}
    options.pop("norm", None)
    want = reference.relative_embedding(weights_of(layer), length, **options)
    assert set(got) == set(want)
    for name in want:
        np.testing.assert_allclose(to_numpy(got[name]), want[name], **TOLERANCE)


def test_skew_is_a_gather(rng):
    x = rng.normal(size=(2, 3, 4, 9)).astype("float32")
    got = to_numpy(skew(keras.ops.convert_to_tensor(x), 4, 5))
    assert got.shape == (2, 3, 4, 5)
    for i, j in np.ndindex(4, 5):
        np.testing.assert_array_equal(got[:, :, i, j], x[:, :, i, j - i + 3])


def test_rows_of_published_models():
    """DeBERTaV3: 256 buckets and 512 positions. Values from the authors' function in torch."""
    rows = distance_rows(np.array([0, 1, -1, 128, 129, 200, -300, 511, 512, -512, 5000]), 256, 512)
    np.testing.assert_array_equal(rows, [256, 257, 255, 384, 385, 425, 49, 511, 511, 0, 511])
    near = np.arange(-128, 129)
    np.testing.assert_array_equal(distance_rows(near, 256, 512), near + 256)
    np.testing.assert_array_equal(distance_rows(near, None, 100), np.clip(near + 100, 0, 199))


def test_unknown_batch_and_length(rng):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer, relative = built(rng, x, {"share_projections": False})

    def call(x, mask):
        return layer(x, key_mask=mask, **relative(x))

    graph = traced(call, ((None, None, 16), "float32"), ((None, None), "float32"))
    for length in (6, 1, 3):
        inputs = (x[:, :length], MASK[:, :length].astype("float32"))
        # A compiled graph sums in another order.
        np.testing.assert_allclose(to_numpy(graph(*inputs)), to_numpy(call(*inputs)), **TOLERANCE)


def test_equal_to_kerashub(rng):
    from keras_hub.src.models.deberta_v3.disentangled_self_attention import (
        DisentangledSelfAttention,
    )

    x = rng.normal(size=(2, 40, 16)).astype("float32")  # distances beyond all buckets
    ours = MultiHeadAttention(4, disentangled={})
    relative = RelativeEmbedding(8, 32, norm="none")
    ours(x, **relative(x))
    randomize(ours, rng), randomize(relative, rng)
    theirs = DisentangledSelfAttention(4, 16, max_position_embeddings=32, bucket_size=8)
    theirs.build((None, None, 16))
    for name in ("query", "key", "value", "output"):
        mine, target = getattr(ours, f"{name}_dense"), getattr(theirs, f"_{name}_dense")
        target.kernel.assign(keras.ops.reshape(mine.kernel, target.kernel.shape))
        target.bias.assign(keras.ops.reshape(mine.bias, target.bias.shape))
    table = np.stack([to_numpy(relative.relative_embeddings)] * 2)
    mask = np.arange(40) < np.array([[40], [29]])
    want = theirs(x, table, attention_mask=mask[:, None] & mask[..., None])
    got = ours(x, key_mask=mask, **relative(x))
    # float32 sums of some ten products of values around 1, in another order.
    np.testing.assert_allclose(to_numpy(got)[mask], to_numpy(want)[mask], rtol=1e-5, atol=1e-5)


def test_dropout_acts_on_the_vectors_of_distances(rng):
    x = rng.normal(size=(2, 6, 16)).astype("float32")
    layer, relative = built(rng, x, {"dropout": 0.5})
    vectors = relative(x)
    outputs = [to_numpy(layer(x, training=t, **vectors)) for t in (True, True, False, False)]
    assert not np.allclose(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[2], outputs[3])


X = np.ones((1, 2, 8), "float32")
VECTORS = np.ones((1, 4, 8), "float32")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MultiHeadAttention(2, disentangled={"terms": []}),
            "one or both of 'c2p' and 'p2c'.*Leave out `disentangled`",
        ),
        (lambda: MultiHeadAttention(2, disentangled={"terms": ["p2p"]}), r"terms=\['p2p'\]"),
        (lambda: MultiHeadAttention(2, disentangled={"terms": "c2p"}), "terms='c2p'"),
        (
            lambda: MultiHeadAttention(2, disentangled={"share": True}),
            "`disentangled` must be a dict.*Pass some of terms, share_projections, dropout",
        ),
        (
            lambda: MultiHeadAttention(2, disentangled={"share_projections": "no"}),
            "`share_projections` must be True or False.*'no'",
        ),
        (lambda: MultiHeadAttention(2, disentangled={"dropout": 1.0}), "`dropout` is the share"),
        (
            lambda: MultiHeadAttention(
                4, disentangled={}, rotary={}, qk_norm="rms_norm", num_key_value_heads=2
            ),
            "disentangled with rotary, qk_norm, num_key_value_heads. Leave out one",
        ),
        (
            lambda: MultiHeadAttention(2, disentangled={})(X, relative_keys=VECTORS),
            "Received: relative_queries=none.*'p2c'.*Pass both, or leave out",
        ),
        (
            lambda: MultiHeadAttention(2)(X, relative_keys=VECTORS),
            r"only if it is `disentangled`.*relative_keys=given, terms=\[\]",
        ),
        (
            lambda: MultiHeadAttention(2, disentangled={"terms": ["c2p"]})(
                X, relative_keys=VECTORS[:, 1:]
            ),
            r"`relative_keys` must have shape \(batch, queries \+ keys, features\), here "
            r"\(1, 4, 8\).*shape \(1, 3, 8\)",
        ),
        (
            lambda: MultiHeadAttention(2, disentangled={"terms": ["c2p"]})(
                X, relative_keys=VECTORS[:, :1]
            ),
            r"of shape \(1, 1, 8\)",  # which broadcasts, but is no row for each distance
        ),
        (lambda: RelativeEmbedding(1, 8), "`bucket_size` must be above 1, and its half below"),
        (lambda: RelativeEmbedding(14, 8), "bucket_size=14, max_distance=8.*pass None"),
        (lambda: RelativeEmbedding(0, 8), "`bucket_size` must be a whole number from 1"),
        (lambda: RelativeEmbedding(None, 0), "`max_distance` must be a whole number from 1"),
        (lambda: RelativeEmbedding(norm="batch_norm"), "averages over rows. Pass for instance"),
        (lambda: RelativeEmbedding(norm="no"), "`norm` must be one of"),
        (lambda: RelativeEmbedding(epsilon=0.0), "`epsilon` must be above 0"),
        (lambda: RelativeEmbedding(max_sequence_length=1)(X), "max_sequence_length=2"),
        (lambda: RelativeEmbedding()(X[0]), r"`x` must have shape .*shape \(2, 8\). Reshape it"),
        (lambda: RelativeEmbedding(dim=8), "has no argument `dim`"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_to_keras_refuses_it():
    layer = MultiHeadAttention(2, disentangled={})
    layer.build((None, 3, 8))
    with pytest.raises(ValueError, match="a layer that sets disentangled"):
        layer.to_keras()
