"""Every layer in every precision: saved and restored, finite for inputs of 1e4, float32 inside."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import (
    AddNorm,
    FeedForward,
    LearnedPositionEncoding,
    MultiHeadAttention,
    PatchEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    TokenAndPositionEmbedding,
    TransformerEncoderLayer,
)
from keras_addnorm.layers.activations import ACTIVATIONS
from tests.common import flat_outputs, randomize, to_numpy
from tests.layers.test_contract import each_case

DTYPES = ["float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]
HALVES = ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]
NORMS = ["layer_norm", "rms_norm", "batch_norm", "power_norm", "dynamic_tanh", "none"]


def policies(layer):
    """What each sublayer computes in and keeps its weights in."""
    layers = layer._flatten_layers()
    return [(x.path, x.compute_dtype, x.variable_dtype, x.quantization_mode) for x in layers]


def precisions(model):
    return [policies(layer) for layer in model.layers] + [w.dtype for w in model.weights]


@each_case
def test_saved_and_restored_in_every_precision(rng, case, tmp_path):
    symbolic = case.symbolic()
    layers = {dtype: case.layer(dtype=dtype, name=dtype) for dtype in DTYPES}
    model = keras.Model(symbolic, {dtype: layer(**symbolic) for dtype, layer in layers.items()})
    for layer in layers.values():
        randomize(layer, rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert precisions(loaded) == precisions(model)
    for dtype in DTYPES:
        assert loaded.get_layer(dtype).dtype_policy == keras.DTypePolicy(dtype)
    inputs = case.inputs(rng)
    gots, wants = loaded(inputs), model(inputs)
    assert set(gots) == set(DTYPES)
    for got, want in zip(keras.tree.flatten(gots), keras.tree.flatten(wants), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(to_numpy(got), to_numpy(want))


@each_case
@pytest.mark.parametrize("dtype", ["mixed_float16", "float16"])
@pytest.mark.parametrize("random", [False, True])
def test_inputs_of_size_1e4_stay_finite(rng, case, dtype, random):
    """Float16 ends at 65504: squares of 1e4 are beyond it, and so are sums of ten of them."""
    inputs = case.inputs(rng)
    for name in case.floats:
        inputs[name] = rng.choice([-1e4, 1e4, 9e3, 1.0], size=inputs[name].shape)
    layer = case.layer(dtype=dtype)
    layer(**inputs)
    if random:
        randomize(layer, rng)
    for training in (False, True):
        kwargs = {"training": training} if layer._call_has_training_arg else {}
        for output in flat_outputs(layer(**inputs, **kwargs)):
            assert np.isfinite(output).all()


@pytest.mark.parametrize("dtype", ["mixed_float16", "float16"])
@pytest.mark.parametrize("rate", ["dropout", "drop_path"])
def test_dropout_of_the_largest_values_stays_finite(dtype, rate):
    """What is kept is divided by 1 - rate, which makes 60000 too large for float16."""
    y = np.full((8, 3, 4), 60000.0, "float32")
    for layer in (AddNorm(**{rate: 0.2}, dtype=dtype), AddNorm("none", **{rate: 0.2}, dtype=dtype)):
        assert np.isfinite(to_numpy(layer(0 * y, y, training=True))).all()


def test_a_block_trains_finitely_at_1e4(rng):
    x = rng.choice([-1e4, 1e4, 9e3], size=(4, 16, 64))
    layer = TransformerEncoderLayer(
        64, 2, dropout=0.3, kernel_initializer="he_normal", dtype="mixed_float16"
    )
    for _ in range(3):
        assert np.isfinite(to_numpy(layer(x, training=True))).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_position_bias_stays_float32(rng, dtype):
    """1000.25 is 1000 in bfloat16, and -1e9 is minus infinity in float16."""
    x = rng.normal(size=(1, 3, 4))
    bias = np.zeros((1, 1, 3, 3), "float32")
    bias[..., 0], bias[..., 1] = 1000.0, 1000.25
    layer = MultiHeadAttention(2, dtype=dtype)
    layer(x)
    for projection in (layer.query_dense, layer.key_dense):
        projection.kernel.assign(0 * projection.kernel)
    _, scores = layer(x, position_bias=bias, return_attention_scores=True)
    want = 1 / (1 + np.exp(0.25))
    np.testing.assert_allclose(to_numpy(scores)[..., 0], want, rtol=1e-6)
    assert np.isfinite(to_numpy(layer(x, position_bias=0 * bias - 1e9))).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_every_activation_stays_finite_at_1e4(rng, activation, gated):
    x = rng.choice([-1e4, 1e4, 0.0], size=(4, 8)).astype("float16")
    layer = FeedForward(16, activation, gated=gated, dtype="float16")
    layer(x)
    randomize(layer, rng)
    assert np.isfinite(to_numpy(layer(x))).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", HALVES)
def test_a_joint_adds_and_normalizes_in_float32(rng, norm, dtype):
    """Bit by bit what a float32 joint gives, rounded once: also where the sum is beyond 65504."""
    compute = keras.dtype_policies.get(dtype).compute_dtype
    x, y = (keras.ops.cast(1e4 * rng.uniform(-1, 1, (2, 3, 8)), compute) for _ in range(2))
    options = {"norm": norm, "residual_scale": 12.0, "branch_scale": 0.5, "return_sum": True}
    half, full = AddNorm(**options, dtype=dtype), AddNorm(**options, dtype="float32")
    half(x, y), full(x, y)
    randomize(half, rng)
    for mine, theirs in zip(full.weights, half.weights, strict=True):
        mine.assign(keras.ops.cast(theirs, "float32"))
    wants = [keras.ops.clip(want, -65504, 65504) for want in full(x, y)]
    assert max(np.abs(to_numpy(want)).max() for want in wants) > 6e4
    if compute == "bfloat16":
        wants = full(x, y)
    for got, want in zip(half(x, y), wants, strict=True):
        assert keras.backend.standardize_dtype(got.dtype) == compute
        np.testing.assert_array_equal(to_numpy(got), to_numpy(keras.ops.cast(want, compute)))


@pytest.mark.parametrize("dtype", HALVES)
def test_rotations_are_float32(rng, dtype):
    compute = keras.dtype_policies.get(dtype).compute_dtype
    x = keras.ops.cast(rng.normal(size=(2, 9, 3, 8)), compute)
    want = RotaryEmbedding(dtype="float32")(keras.ops.cast(x, "float32"))
    got = RotaryEmbedding(dtype=dtype)(x)
    np.testing.assert_array_equal(to_numpy(got), to_numpy(keras.ops.cast(want, compute)))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_positions_are_added_in_float32(rng, dtype, position):
    compute = keras.dtype_policies.get(dtype).compute_dtype
    arguments = {"position": position, "embedding_norm": True, "embedding_scale": "sqrt"}
    half = TokenAndPositionEmbedding(7, 9, 8, **arguments, dtype=dtype)
    full = TokenAndPositionEmbedding(7, 9, 8, **arguments, dtype="float32")
    ids = rng.integers(0, 7, size=(2, 9))
    half(ids), full(ids)
    randomize(half, rng)
    full.set_weights(half.get_weights())
    table = full.token_embedding.embeddings  # a row is looked up in half precision
    table.assign(keras.ops.cast(keras.ops.cast(table, compute), "float32"))
    want = keras.ops.cast(full(ids), compute)
    np.testing.assert_array_equal(to_numpy(half(ids)), to_numpy(want))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_tables_of_positions_are_read_in_float32(rng, dtype):
    x = rng.normal(size=(2, 5, 8)).astype("float32")
    bias = RelativePositionBias(2, dtype=dtype)
    bias(x)
    randomize(bias, rng)
    table = to_numpy(bias.relative_attention_bias)
    np.testing.assert_array_equal(to_numpy(bias(x))[0, :, 0, 0], table[0])
    learned = LearnedPositionEncoding(5, dtype=dtype)
    learned(x)
    randomize(learned, rng)
    encoding = to_numpy(learned.encoding(np.zeros((1, 5)), "float32"))[0]
    np.testing.assert_array_equal(encoding, to_numpy(learned.position_embeddings))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_float32_and_sum_to_one(rng, dtype):
    x = rng.normal(size=(2, 200, 8)).astype("float32")
    _, scores = MultiHeadAttention(2, dtype=dtype)(x, return_attention_scores=True)
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    # 200 shares of 1/200: in float16 each would be off by 2^-12 of its size, the sum by 1e-4.
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_large_scores_do_not_lift_a_masked_key(rng, dtype):
    """Inputs of 1e4 make scores of 1e9, and the keys that may be seen can score -1e9."""
    x = 1e4 * rng.choice([-1.0, 1.0], size=(4, 6, 8)).astype("float32")
    layer = MultiHeadAttention(2, dtype=dtype)
    layer(x)
    layer.query_dense.kernel.assign(2 * np.eye(8))
    layer.key_dense.kernel.assign(2 * np.eye(8))
    mask = np.array([[1, 1, 0, 0, 0, 0]] * 4)
    for kwargs in ({"key_mask": mask}, {"use_causal_mask": True}):
        output, scores = layer(x, return_attention_scores=True, **kwargs)
        hidden = np.triu(np.ones((6, 6)), 1) if "use_causal_mask" in kwargs else 1 - mask[0]
        scores = to_numpy(scores)
        assert not np.any(scores * hidden)
        np.testing.assert_allclose(scores.sum(-1), 1.0, rtol=0, atol=1e-6)
        assert np.isfinite(to_numpy(output)).all()


def policy_map(default, **exceptions):
    entries = {
        path.replace("__", "/"): keras.DTypePolicy(dtype) for path, dtype in exceptions.items()
    }
    return keras.dtype_policies.DTypePolicyMap(keras.DTypePolicy(default), entries)


MAPS = {
    "one projection": (
        lambda dtype: MultiHeadAttention(2, rotary={}, use_gate=True, dtype=dtype, name="layer"),
        policy_map("float32", layer__value="bfloat16", layer__output="float16"),
        {"layer/value": "bfloat16", "layer/output": "float16", "layer/query": "float32"},
    ),
    "one half of a gate": (
        lambda dtype: FeedForward(16, "silu", gated=True, dtype=dtype, name="layer"),
        policy_map("mixed_bfloat16", layer__gate="float32"),
        {"layer/gate": "float32", "layer/intermediate": "bfloat16", "layer/output": "bfloat16"},
    ),
    "norm of a joint": (
        lambda dtype: AddNorm("rms_norm", return_sum=True, dtype=dtype, name="layer"),
        policy_map("float16", layer__norm="float32"),
        {"layer/norm": "float32"},
    ),
    "batch norm of a joint": (
        lambda dtype: AddNorm("batch_norm", dtype=dtype, name="layer"),
        policy_map("float32", layer__norm="bfloat16"),
        {"layer/norm": "bfloat16"},
    ),
    "feed-forward of a block": (
        lambda dtype: TransformerEncoderLayer(16, 2, dtype=dtype, name="layer"),
        keras.dtype_policies.DTypePolicyMap(
            keras.DTypePolicy("float32"),
            {"layer/feed_forward(/.*)?": keras.DTypePolicy("bfloat16")},
        ),
        {
            "layer/feed_forward": "bfloat16",
            "layer/feed_forward/intermediate": "bfloat16",
            "layer/feed_forward/output": "bfloat16",
            "layer/attention/query": "float32",
            "layer/feed_forward_add_norm": "float32",
            "layer/feed_forward_add_norm/norm": "float32",
        },
    ),
    "last joint of a block": (
        lambda dtype: TransformerEncoderLayer(16, 2, dtype=dtype, name="layer"),
        policy_map("mixed_bfloat16", layer__feed_forward_add_norm="float32"),
        {"layer/feed_forward_add_norm": "float32", "layer/feed_forward": "bfloat16"},
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_policy_map(rng, name, tmp_path):
    make, dtype, expected = MAPS[name]
    layer = make(dtype)
    x = rng.normal(size=(2, 5, 8)).astype("float32")
    inputs = [keras.Input((None, 8))] * (2 if isinstance(layer, AddNorm) else 1)
    model = keras.Model(inputs[0], layer(*inputs))
    randomize(layer, rng)
    computes = {path: compute for path, compute, *_ in policies(layer)}
    assert {path: computes[path] for path in expected} == expected
    assert layer.compute_dtype == dtype.compute_dtype
    outputs = keras.tree.flatten(model(x))
    for output, spec in zip(outputs, keras.tree.flatten(model.output), strict=True):
        assert keras.backend.standardize_dtype(output.dtype) == spec.dtype == layer.compute_dtype

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert precisions(loaded) == precisions(model)
    for got, want in zip(flat_outputs(loaded(x)), flat_outputs(outputs), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("part", ["token_embedding", "position_encoding", "norm", "projection"])
def test_policy_map_of_embeddings(rng, part, tmp_path):
    layer = TokenAndPositionEmbedding(
        7,
        9,
        8,
        embedding_norm=True,
        token_embedding_dim=4,
        dtype=policy_map("float32", **{f"layer__{part}": "bfloat16"}),
        name="layer",
    )
    ids = rng.integers(0, 7, size=(2, 9))
    token_ids = keras.Input((None,), dtype="int32")
    model = keras.Model(token_ids, layer(token_ids))
    randomize(layer, rng)
    computes = {path: compute for path, compute, *_ in policies(layer)}
    assert computes[f"layer/{part}"] == "bfloat16"
    assert layer.token_embedding.compute_dtype == (
        "bfloat16" if part == "token_embedding" else "float32"
    )
    assert keras.backend.standardize_dtype(model(ids).dtype) == model.output.dtype == "float32"
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert precisions(loaded) == precisions(model)
    np.testing.assert_array_equal(to_numpy(loaded(ids)), to_numpy(model(ids)))


def test_policy_map_of_patches(rng):
    layer = PatchEmbedding(
        2, 8, dtype=policy_map("float32", layer__projection="bfloat16"), name="layer"
    )
    images = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    output = layer(images)
    assert layer.projection.compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
