"""TokenAndPositionEmbedding: values, masks, lengths, half precision, errors."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.layers import FeedForward, MultiHeadAttention, TokenAndPositionEmbedding
from tests import reference
from tests.backends import tensorflow_only, traced
from tests.common import keras_mask, randomize, to_numpy, weights_of

# Three float32 numbers of size 1 are added, then normalized over 8 features.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}

IDS = np.array([[1, 2, 3, 0, 0], [4, 10, 0, 0, 0]], "int32")
SEGMENTS = np.array([[0, 0, 1, 0, 0], [0, 1, 1, 1, 1]], "int32")


def built(rng, **kwargs):
    layer = TokenAndPositionEmbedding(11, 6, 8, **kwargs)
    layer.build((None, None))
    return randomize(layer, rng)


def inputs(num_segments):
    return (IDS, SEGMENTS) if num_segments > 1 else (IDS,)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("num_segments", [0, 1, 2])
@pytest.mark.parametrize("norm", [False, True, "rms_norm"])
def test_values(rng, position, num_segments, norm):
    layer = built(
        rng, position=position, num_segments=num_segments, embedding_norm=norm, epsilon=1e-2
    )
    kind = {False: None, True: "layer_norm"}.get(norm, norm)
    want = reference.token_and_position_embedding(
        weights_of(layer), *inputs(num_segments), position=position, kind=kind, epsilon=1e-2
    )
    np.testing.assert_allclose(to_numpy(layer(*inputs(num_segments))), want, **TOLERANCE)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
@pytest.mark.parametrize(
    ("scale", "factor"), [(None, 1.0), (2.5, 2.5), (0, 0.0), ("sqrt", math.sqrt(8))]
)
@pytest.mark.parametrize("width", [None, 4])
def test_values_with_scale_and_projection(rng, position, scale, factor, width):
    layer = built(
        rng,
        position=position,
        num_segments=2,
        embedding_norm=True,
        embedding_scale=scale,
        token_embedding_dim=width,
        dropout=0.5,  # not active
    )
    weights = weights_of(layer)
    assert weights["token_embedding/embeddings"].shape == (11, width or 8)
    assert ("projection/kernel" in weights) == (width is not None)
    want = reference.token_and_position_embedding(
        weights, IDS, SEGMENTS, position=position, kind="layer_norm", scale=factor
    )
    assert want.shape == (2, 5, 8)
    np.testing.assert_allclose(to_numpy(layer(IDS, SEGMENTS)), want, **TOLERANCE)


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_values_of_projected_neighbours(rng, window, position):
    layer = built(
        rng,
        position=position,
        num_segments=2,
        embedding_norm="affine",
        token_embedding_dim=4,
        projection_window=window,
    )
    weights = weights_of(layer)
    assert weights["projection/kernel"].shape == (4 * window, 8)
    assert weights["segment_embedding/embeddings"].shape == (2, 8)
    want = reference.token_and_position_embedding(
        weights, IDS, SEGMENTS, position=position, kind="affine", window=window
    )
    np.testing.assert_allclose(to_numpy(layer(IDS, SEGMENTS)), want, **TOLERANCE)


@pytest.mark.parametrize("position", ["learned", "none"])
def test_values_with_the_projection_first(rng, position):
    layer = built(
        rng,
        position=position,
        num_segments=2,
        embedding_norm=True,
        token_embedding_dim=4,
        project_first=True,
    )
    weights = weights_of(layer)
    assert "projection/bias" not in weights
    assert weights["segment_embedding/embeddings"].shape == (2, 4)
    assert weights["norm/gamma"].shape == (8,)
    want = reference.token_and_position_embedding(
        weights, IDS, SEGMENTS, position=position, kind="layer_norm", first=True
    )
    np.testing.assert_allclose(to_numpy(layer(IDS, SEGMENTS)), want, **TOLERANCE)


MASKED = np.array([[1, 4, 3, 4, 0], [4, 10, 4, 0, 0]], "int32")  # 4 is the mask token
KEEP = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], "int32")


@pytest.mark.parametrize("mask", [None, KEEP])
@pytest.mark.parametrize("rate", [0.12, 0.0, 0.5])
@pytest.mark.parametrize("norm", [False, True])
def test_values_with_a_mask_token(rng, mask, rate, norm):
    layer = built(rng, embedding_norm=norm, mask_token_id=4, mask_token_rate=rate)
    want = reference.token_and_position_embedding(
        weights_of(layer),
        MASKED,
        mask=mask,
        kind="layer_norm" if norm else None,
        mask_token=4,
        rate=rate,
    )
    np.testing.assert_allclose(to_numpy(layer(MASKED, mask=mask)), want, **TOLERANCE)


def test_a_sequence_of_mask_tokens_or_of_padding_is_finite(rng):
    layer = built(rng, position="none", mask_token_id=4)
    ids = np.array([[4, 4, 4], [1, 2, 3]], "int32")
    got = to_numpy(layer(ids, mask=np.array([[1, 1, 1], [0, 0, 0]])))
    np.testing.assert_array_equal(got, 0.0)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("mask_zero", [False, True])
def test_padding_is_zero(rng, norm, mask_zero):
    layer = built(rng, embedding_norm=norm, zero_padding=True, mask_zero=mask_zero)
    plain = built(rng, embedding_norm=norm)
    plain.set_weights(layer.get_weights())
    keep = KEEP[..., None] * ((IDS != 0)[..., None] if mask_zero else 1)
    want = to_numpy(plain(IDS)) * keep
    np.testing.assert_array_equal(to_numpy(layer(IDS, mask=KEEP)), want)


@pytest.mark.parametrize("offset", [0, 2])
def test_positions_start_at_the_offset(rng, offset):
    layer = built(rng, position_offset=offset)
    weights = weights_of(layer)
    assert weights["position_encoding/position_embeddings"].shape == (6 + offset, 8)
    want = reference.token_and_position_embedding(weights, IDS, offset=offset)
    np.testing.assert_allclose(to_numpy(layer(IDS)), want, **TOLERANCE)
    assert layer(np.ones((1, 6), "int32")).shape == (1, 6, 8)
    with pytest.raises(ValueError, match="positions 0 to 5.*length 7"):
        layer(np.ones((1, 7), "int32"))


def test_without_positions_any_length_is_taken(rng):
    layer = built(rng, position="none")
    assert [w.path.split("/", 1)[1] for w in layer.weights] == ["token_embedding/embeddings"]
    assert layer(np.ones((1, 70), "int32")).shape == (1, 70, 8)


def test_dropout_is_after_the_norm_and_before_the_projection(rng):
    layer = built(
        rng, embedding_norm=True, token_embedding_dim=8, dropout=0.5, embeddings_initializer="ones"
    )
    layer.norm_layer.gamma.assign(np.zeros(8))
    layer.norm_layer.beta.assign(np.ones(8))
    layer.projection.kernel.assign(np.eye(8))
    layer.projection.bias.assign(np.full(8, 3.0))
    ids = np.ones((40, 6), "int32")
    np.testing.assert_array_equal(to_numpy(layer(ids)), 4.0)
    got = to_numpy(layer(ids, training=True))
    assert set(np.unique(got)) == {3.0, 5.0}
    # 1920 fair coins: the mean strays by 0.023 (one deviation), so 0.2 is nine of them.
    assert abs(got.mean() - 4.0) < 0.2


def test_tied_logits(rng):
    layer = built(rng)
    x = rng.normal(size=(2, 5, 8)).astype("float32")
    want = x.astype("float64") @ weights_of(layer)["token_embedding/embeddings"].T
    logits = layer.token_embedding(x, reverse=True)
    np.testing.assert_allclose(to_numpy(logits), want, **TOLERANCE)
    assert len(layer.token_embedding.weights) == 1


def outputs_and_logits(model, rng):
    """What a model gives for `IDS`, and the tied logits of some tensor."""
    table = model.get_layer("embeddings").token_embedding
    x = rng.normal(size=(2, 5, table.output_dim)).astype("float32")
    return model(IDS), table(x, reverse=True)


@pytest.mark.parametrize("width", [None, 16])
@pytest.mark.parametrize("quantized", [False, True])
def test_saved_model_is_bit_equal_logits_included(rng, width, quantized, tmp_path):
    ids = keras.Input((None,), dtype="int32")
    layer = TokenAndPositionEmbedding(
        50, 6, 16, token_embedding_dim=width, mask_zero=True, name="embeddings"
    )
    model = keras.Model(ids, layer(ids))
    randomize(layer, rng)
    assert model.weights[0].path == "embeddings/token_embedding/embeddings"
    exact = outputs_and_logits(model, np.random.default_rng(3))
    if quantized:
        layer.token_embedding.quantize("int8")
        assert layer.token_embedding.variables[0].dtype == "int8"
    wants = outputs_and_logits(model, np.random.default_rng(3))
    np.testing.assert_array_equal(keras_mask(wants[0]), IDS != 0)
    for want, full in zip(wants, exact, strict=True):
        # Table and logits' input have steps of 1/127 of the largest value of a row: relative
        # errors of 1 % where 16 products of random sign make up the value.
        np.testing.assert_allclose(
            to_numpy(want), to_numpy(full), rtol=0, atol=0.1 if quantized else 0
        )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [(w.path, w.dtype) for w in loaded.weights] == [(w.path, w.dtype) for w in model.weights]
    gots = outputs_and_logits(loaded, np.random.default_rng(3))
    for got, want in zip(gots, wants, strict=True):
        np.testing.assert_array_equal(to_numpy(got), to_numpy(want))


@tensorflow_only
@pytest.mark.parametrize("length", [5, None])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"position_offset": 2, "token_embedding_dim": 16, "embedding_norm": True, "dropout": 0.1},
        {"position": "none", "embedding_scale": "sqrt"},
        {"position": "sinusoidal", "embedding_scale": "sqrt", "mask_zero": True},
    ],
)
def test_export_is_one_partition(rng, kwargs, length, tmp_path):
    ids = keras.Input((None,), dtype="int32", name="ids")
    embed = TokenAndPositionEmbedding(50, 32, 32, **kwargs)
    model = keras.Model(ids, FeedForward(32)(embed(ids)))
    randomize(embed, rng)
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=length)
    assert report.xnnpack_partitions == 1
    assert not any(op.startswith("CUSTOM") for op in report.operators)


def test_norm_given_as_a_layer(rng):
    layer = built(rng, embedding_norm=keras.layers.LayerNormalization(epsilon=0.1))
    total = reference.token_and_position_embedding(weights_of(layer), IDS)
    want = reference.norm(weights_of(layer.norm_layer), total, epsilon=0.1)
    np.testing.assert_allclose(to_numpy(layer(IDS)), want, **TOLERANCE)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("length", [1, 5])
def test_dynamic_length_is_the_static_one(rng, position, length):
    layer = built(rng, position=position, num_segments=2, embedding_norm=True)
    call = traced(layer, *[((None, None), "int32")] * 2)
    ids, segments = IDS[:, :length], SEGMENTS[:, :length]
    # The same sums; only the kernels chosen for the norm may differ.
    np.testing.assert_allclose(
        to_numpy(call(ids, segments)), to_numpy(layer(ids, segments)), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("num_segments", [0, 2])
def test_mask_of_token_zero_is_attached_and_used(rng, position, num_segments):
    layer = built(rng, position=position, num_segments=num_segments, mask_zero=True)
    output = layer(*inputs(num_segments))
    np.testing.assert_array_equal(keras_mask(output), IDS != 0)
    _, scores = MultiHeadAttention(2)(output, return_attention_scores=True)
    np.testing.assert_array_equal(to_numpy(scores)[0, :, :, 3:], 0.0)
    np.testing.assert_array_equal(to_numpy(scores)[1, :, :, 2:], 0.0)


def test_no_mask_without_mask_zero(rng):
    assert keras_mask(built(rng)(IDS)) is None


def test_mask_in_a_functional_model(rng):
    layer = built(rng, mask_zero=True)
    tokens = keras.Input((None,), dtype="int32")
    _, scores = MultiHeadAttention(2)(layer(tokens), return_attention_scores=True)
    got = keras.Model(tokens, scores).predict(IDS, verbose=0)
    np.testing.assert_array_equal(got[0, :, :, 3:], 0.0)
    np.testing.assert_array_equal(got[1, :, :, 2:], 0.0)


def test_tables_of_one_shape_start_differently(rng):
    layer = TokenAndPositionEmbedding(6, 6, 8, num_segments=6)
    layer.build((None, None))
    tables = [to_numpy(w.value) for w in layer.weights]
    assert [table.shape for table in tables] == [(6, 8)] * 3
    for one, other in itertools.combinations(tables, 2):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(rng, position, dtype):
    layer = built(rng, position=position, num_segments=2, embedding_norm=True, dtype=dtype)
    output = layer(IDS, SEGMENTS)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    want = reference.token_and_position_embedding(
        weights_of(layer), IDS, SEGMENTS, position=position, kind="layer_norm"
    )
    # Three terms, two sums and an output of up to 4 are each rounded by 2^-9 (bfloat16) or
    # 2^-12 (float16) of their size.
    atol = 0.05 if "bfloat16" in dtype else 0.006
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_longer_sequence_is_refused(rng, position):
    layer = built(rng, position=position)
    assert layer(np.ones((1, 6), "int32")).shape == (1, 6, 8)
    with pytest.raises(ValueError, match="positions 0 to 5.*length 7.*Truncate it, or pass max"):
        layer(np.ones((1, 7), "int32"))


@pytest.mark.parametrize(
    ("num_segments", "call", "received"),
    [
        (2, (IDS,), "segment_ids=none"),
        (0, (IDS, SEGMENTS), "segment_ids=given"),
        (1, (IDS, SEGMENTS), "segment_ids=given"),
    ],
)
def test_segments_missing_or_not_wanted(rng, num_segments, call, received):
    layer = built(rng, num_segments=num_segments)
    with pytest.raises(ValueError, match="takes `segment_ids` if and only if") as error:
        layer(*call)
    assert f"num_segments={num_segments}, {received}" in str(error.value)


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size", "Pass a positive int"),
        ({"vocabulary_size": "11"}, "vocabulary_size", "Pass a positive int"),
        ({"max_sequence_length": -1}, "max_sequence_length", "Pass a positive int"),
        ({"max_sequence_length": 6.5}, "max_sequence_length", "Pass a positive int"),
        ({"embedding_dim": True}, "embedding_dim", "Pass a positive int"),
        ({"embedding_dim": None}, "embedding_dim", "Pass a positive int"),
        ({"num_segments": -1}, "num_segments", "a whole number from 0"),
        ({"num_segments": True}, "num_segments", "a whole number from 0"),
        ({"num_segments": 1.5}, "num_segments", "a whole number from 0"),
        ({"position": "rotary"}, "position", "'sinusoidal', 'learned', 'none'"),
        ({"position": None}, "position", "'sinusoidal', 'learned', 'none'"),
        ({"position_offset": -1}, "position_offset", "a whole number from 0"),
        (
            {"position_offset": 2, "position": "none"},
            "position_offset",
            "Pass position='learned' or position_offset=0",
        ),
        ({"token_embedding_dim": 0}, "token_embedding_dim", "Pass a positive int"),
        ({"embedding_scale": "square"}, "embedding_scale", "a finite number, 'sqrt' or None"),
        ({"embedding_scale": float("nan")}, "embedding_scale", "Pass a float"),
        ({"dropout": 1.0}, "dropout", "Pass for instance 0.1"),
        ({"epsilon": 0.0}, "epsilon", "Pass a small float such as 1e-5"),
        ({"epsilon": float("inf")}, "epsilon", "finite"),
        ({"projection_window": 3}, "projection_window", "and a token_embedding_dim"),
        ({"project_first": True}, "project_first", "Pass a token_embedding_dim only"),
        (
            {"project_first": True, "token_embedding_dim": 4, "projection_window": 1},
            "project_first",
            "projection_window=1",
        ),
        ({"project_first": 1}, "project_first", "Pass a bool"),
        (
            {"projection_window": 2, "token_embedding_dim": 4},
            "projection_window",
            "Pass for instance projection_window=3",
        ),
        (
            {"projection_window": 0, "token_embedding_dim": 4},
            "projection_window",
            "Pass a positive int",
        ),
        ({"mask_token_id": 11}, "mask_token_id", "from 0 to 10"),
        ({"mask_token_id": -1}, "mask_token_id", "from 0 to 10"),
        ({"mask_token_rate": 1.0}, "mask_token_rate", "Pass for instance 0.1"),
        ({"embedding_norm": "batch"}, "embedding_norm", "'affine', 'none'"),
        ({"positions": "learned"}, "positions", "Did you mean `position`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    sizes = {"vocabulary_size": 11, "max_sequence_length": 6, "embedding_dim": 8}
    with pytest.raises(ValueError, match="TokenAndPositionEmbedding") as error:
        TokenAndPositionEmbedding(**{**sizes, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)


@pytest.mark.parametrize("bad", [-1, 11])
@pytest.mark.parametrize("name", ["token_ids", "segment_ids"])
def test_ids_out_of_range(name, bad):
    layer = TokenAndPositionEmbedding(11, 8, 4, num_segments=2)
    inputs = {"token_ids": np.ones((2, 3), "int32"), "segment_ids": np.ones((2, 3), "int32")}
    layer(**inputs)
    inputs[name][1, 2] = bad
    with pytest.raises(ValueError) as error:
        layer(**inputs)
    limit = {"token_ids": "vocabulary_size=11", "segment_ids": "num_segments=2"}[name]
    assert f"`{name}` must be from 0 to" in str(error.value) and limit in str(error.value)
    assert f"values from {min(bad, 1)} to {max(bad, 1)}" in str(error.value)


@pytest.mark.parametrize("norm", ["batch_norm", "power_norm"])
def test_mask_and_mask_of_token_zero_combine(rng, norm):
    """What either hides is in no statistic."""
    ids, mask = np.array([[3, 4, 0, 5], [6, 0, 7, 8]]), np.array([[1, 1, 1, 0], [1, 1, 0, 1]])
    both = (ids != 0) & (mask == 1)
    outputs = []
    for other in (9, 1):
        hidden = np.where((ids != 0) & (mask == 0), other, ids)
        layer = TokenAndPositionEmbedding(
            11, 8, 4, embedding_norm=norm, mask_zero=True, embeddings_initializer=SEEDED
        )
        outputs.append(to_numpy(layer(hidden, mask=mask, training=True))[both])
    np.testing.assert_array_equal(outputs[0], outputs[1])


SEEDED = keras.initializers.RandomNormal(seed=3)
