"""Every option of attention against the float64 reference, Keras's layers and its own rules."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addnorm.layers import ALiBi, MultiHeadAttention, RelativePositionBias, RotaryEmbedding
from tests import reference
from tests.backends import gradients, traced
from tests.common import randomize, to_numpy, weights_of

# float32 sums of some ten products of values around 1, in another order than the reference.
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0]])

OPTIONS = {
    "grouped": {"num_key_value_heads": 2},
    "multi-query": {"num_key_value_heads": 1},
    "window": {"sliding_window": 2},
    "rotary": {"rotary": {}},
    "partial rotary": {"rotary": {"rotary_dim": 4, "max_wavelength": 500.0}},
    "scaled rotary": {"rotary": {"scaling_factor": 4.0}},
    "interleaved rotary": {"rotary": {"interleaved": True}},
    "qk layer norm": {"qk_norm": "layer_norm"},
    "qk rms norm": {"qk_norm": "rms_norm"},
    "gate": {"use_gate": True},
    "some biases": {"use_bias": ["value", "output"]},
    "all": {
        "num_key_value_heads": 2,
        "sliding_window": 3,
        "rotary": {"rotary_dim": 6},
        "qk_norm": "rms_norm",
        "use_gate": True,
        "use_bias": ["query", "gate"],
    },
}


def built(rng, x, **options):
    layer = MultiHeadAttention(4, key_dim=8, **options)
    layer(x)
    return randomize(layer, rng)


def expected(layer, x, **arguments):
    names = ("num_heads", "num_key_value_heads", "sliding_window", "rotary", "qk_norm")
    options = {name: getattr(layer, name) for name in names}
    return reference.multi_head_attention(weights_of(layer), x, **options, **arguments)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("causal", [False, True])
def test_values(rng, name, causal):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer = built(rng, x, **OPTIONS[name])
    bias = rng.normal(size=(1, 4, 6, 6))
    output, scores = layer(
        x,
        key_mask=MASK,
        use_causal_mask=causal,
        position_bias=bias,
        return_attention_scores=True,
    )
    want = expected(layer, x, key_mask=MASK, causal=causal, position_bias=bias)
    np.testing.assert_allclose(to_numpy(output), want[0], **TOLERANCE)
    np.testing.assert_allclose(to_numpy(scores), want[1], **TOLERANCE)
    alone = layer(x, key_mask=MASK, use_causal_mask=causal, position_bias=bias)
    np.testing.assert_allclose(to_numpy(alone), want[0], **TOLERANCE)


@pytest.mark.parametrize("name", ["all", "grouped", "rotary", "window"])
def test_unknown_batch_and_length(rng, name):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer = built(rng, x, **OPTIONS[name])

    def call(x, mask):
        return layer(x, key_mask=mask, position_bias=ALiBi(4)(x), use_causal_mask=True)

    graph = traced(call, ((None, None, 16), "float32"), ((None, None), "float32"))
    got = to_numpy(graph(x, MASK.astype("float32")))
    # A compiled graph may sum in another order: a few units of 6e-8 of values up to 10.
    np.testing.assert_allclose(got, to_numpy(call(x, MASK)), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"use_gate": True},
        {"sliding_window": 2},
        {"num_key_value_heads": 2},
        {"num_key_value_heads": 1, "use_gate": True, "sliding_window": 3, "use_bias": False},
        {"scale": 1.0},
        {"num_key_value_heads": 2, "scale": 0.2},
    ],
    ids=str,
)
def test_equal_to_keras_both_ways(rng, options):
    x = rng.normal(size=(2, 6, 16)).astype("float32")
    layer = built(rng, x, **options)
    theirs = layer.to_keras()
    grouped = "num_key_value_heads" in options
    kind = keras.layers.GroupQueryAttention if grouped else keras.layers.MultiHeadAttention
    assert isinstance(theirs, kind)
    np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(theirs(x, x)), **TOLERANCE)
    back = MultiHeadAttention.from_keras(theirs)
    if "scale" in options:  # It is in the kernel now, rounded.
        np.testing.assert_allclose(to_numpy(back(x)), to_numpy(layer(x)), **TOLERANCE)
    else:
        np.testing.assert_array_equal(to_numpy(back(x)), to_numpy(layer(x)))


@pytest.mark.parametrize("options", [{}, {"rotary": {}}, {"num_key_value_heads": 2}], ids=str)
def test_scale_multiplies_the_scores(rng, options):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer, own = (built(np.random.default_rng(1), x, **options, scale=s) for s in (None, 0.7))
    for weight in layer.query_dense.weights:
        weight.assign(weight * 0.7 * 8**0.5)  # the default is 8^-0.5
    want = expected(layer, x, key_mask=MASK)
    np.testing.assert_allclose(to_numpy(own(x, key_mask=MASK)), want[0], **TOLERANCE)


def test_grouped_heads_are_repeated_heads(rng):
    x = rng.normal(size=(2, 5, 16)).astype("float32")
    few = built(rng, x, num_key_value_heads=2)
    many = MultiHeadAttention(4, key_dim=8)
    many(x)
    for name in ("query", "key", "value", "output"):
        old, new = getattr(few, f"{name}_dense"), getattr(many, f"{name}_dense")
        kernel, bias = to_numpy(old.kernel), to_numpy(old.bias)
        if name in ("key", "value"):
            kernel = np.repeat(kernel.reshape(16, 2, 8), 2, axis=1).reshape(16, 32)
            bias = np.repeat(bias.reshape(2, 8), 2, axis=0).reshape(32)
        new.kernel.assign(kernel)
        new.bias.assign(bias)
    np.testing.assert_allclose(to_numpy(few(x)), to_numpy(many(x)), atol=1e-5)


@pytest.mark.parametrize("kind", ["key_mask", "value_mask", "keras mask", "attention_mask"])
@pytest.mark.parametrize("scores", [False, True])
def test_nan_and_infinity_at_hidden_positions_reach_nobody(rng, kind, scores):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer = built(rng, x)
    dirty = np.where(MASK[..., None] == 1, x, rng.choice([np.nan, np.inf, -np.inf, 1e30], x.shape))

    def run(x):
        x = keras.ops.convert_to_tensor(x, "float32")
        arguments = {"return_attention_scores": scores}
        if kind == "keras mask":
            x._keras_mask = keras.ops.convert_to_tensor(MASK, "bool")
        elif kind == "attention_mask":
            arguments[kind] = np.repeat(MASK[:, None], 6, axis=1)
        else:
            arguments[kind] = MASK
        output = layer(x, **arguments)
        return to_numpy(output[0] if scores else output)[MASK == 1]

    np.testing.assert_array_equal(run(dirty), run(x))


def test_gradients_stay_finite_with_nan_at_hidden_positions(rng):
    x = rng.normal(size=(2, 6, 16)).astype("float32")
    memory = x.copy()
    memory[:, 3:] = np.nan
    layer = MultiHeadAttention(2)
    key_mask = np.array([[1, 1, 1, 0, 0, 0]] * 2)
    layer.build(x.shape)
    for gradient in gradients(layer, lambda: ops.sum(layer(x, memory, key_mask=key_mask))):
        assert np.isfinite(gradient).all()


def test_no_nan_at_large_inputs_in_half_precision(rng):
    x = (1e4 * rng.normal(size=(2, 6, 16)).clip(-3, 3)).astype("float16")
    for dtype in ("float16", "mixed_float16", "bfloat16"):
        output = MultiHeadAttention(2, dtype=dtype)(x, key_mask=MASK[:2])
        assert not np.isnan(to_numpy(output)).any()


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32", "float16"])
def test_masks_of_all_dtypes_are_equal(rng, dtype):
    x = rng.normal(size=(3, 6, 16)).astype("float32")
    layer = built(rng, x)
    np.testing.assert_array_equal(
        to_numpy(layer(x, key_mask=MASK.astype(dtype))), to_numpy(layer(x, key_mask=MASK))
    )


def test_alibi_slopes_and_symmetry():
    x = np.zeros((1, 5, 8), "float32")
    bias = to_numpy(ALiBi(8)(x))
    assert bias.shape == (1, 8, 5, 5)
    # Press et al., section 3: for 8 heads the slopes are 1/2, 1/4, ..., 1/256.
    np.testing.assert_allclose(bias[0, :, 0, 1], -(0.5 ** np.arange(1, 9)), rtol=1e-7)
    np.testing.assert_array_equal(bias, bias.transpose(0, 1, 3, 2))
    np.testing.assert_allclose(bias[0, :, 0, 4], 4 * bias[0, :, 0, 1], rtol=1e-6)
    # For 6 heads: those of 4 heads, then every other one of 8.
    slopes = -to_numpy(ALiBi(6)(x))[0, :, 0, 1]
    np.testing.assert_allclose(slopes, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3], rtol=1e-7)


def test_relative_buckets_are_those_of_t5(rng):
    layer = RelativePositionBias(2, max_sequence_length=300)
    layer.build((1, None, 8))
    layer.relative_attention_bias.assign(np.arange(64).reshape(32, 2))
    bias = to_numpy(layer(np.zeros((1, 300, 8), "float32")))[0, 0] / 2  # The bucket itself.
    # T5: 16 buckets behind (first 8 exact), 16 ahead; all from 128 away share the last one.
    assert bias[10, 10] == 0 and bias[10, 3] == 7 and bias[10, 11] == 17 and bias[10, 17] == 23
    assert bias[200, 192] == 8 and bias[200, 72] == 15 and bias[200, 0] == 15
    assert bias[0, 128] == 31 and bias[0, 299] == 31
    assert (np.diff(bias[0, 1:]) >= 0).all() and (np.diff(bias[299, :299]) <= 0).all()


def test_relative_bias_of_unknown_length(rng):
    layer = RelativePositionBias(2, max_sequence_length=9)
    layer.build((1, None, 8))
    graph = traced(layer, ((None, None, 8), "float32"))
    x = np.zeros((2, 7, 8), "float32")
    np.testing.assert_array_equal(to_numpy(graph(x)), to_numpy(layer(x)))


def test_rotary_scores_depend_on_the_distance_only(rng):
    vector = rng.normal(size=(1, 1, 1, 8))
    rows = to_numpy(RotaryEmbedding()(np.tile(vector, (1, 20, 1, 1)).astype("float32")))[0, :, 0]
    products = rows @ rows.T
    for offset in range(1, 6):
        # The same product 20 - offset times, rounded in float32.
        assert np.ptp(np.diag(products, offset)) < 1e-5


@pytest.mark.parametrize("frequency_dtype", ["float32", "float16"])
def test_rounded_frequencies(rng, frequency_dtype):
    x = rng.normal(size=(1, 600, 1, 20)).astype("float32")
    layer = RotaryEmbedding(frequency_dtype=frequency_dtype, max_sequence_length=600)
    got, exact = to_numpy(layer(x)), reference.rotate(x)
    want = reference.rotate(x, frequency_dtype=frequency_dtype)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)  # A sum of two products.
    assert (np.abs(want - exact).max() > 0.01) == (frequency_dtype == "float16")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiHeadAttention(4, num_key_value_heads=3), "`num_heads` must be divisible by"),
        (lambda: MultiHeadAttention(4, sliding_window=0), "`sliding_window` must be a whole"),
        (lambda: MultiHeadAttention(4, use_bias=["quary"]), "`use_bias` must be True, False, or"),
        (
            lambda: MultiHeadAttention(2, rotary={"base": 3})(np.ones((1, 2, 4))),
            "`rotary` must be a dict of arguments of RotaryEmbedding",
        ),
        (
            lambda: MultiHeadAttention(2, qk_norm="x")(np.ones((1, 2, 4))),
            "`qk_norm` must be one of",
        ),
        (
            lambda: MultiHeadAttention(2, qk_norm="batch_norm"),
            "over positions.*'rms_norm'",
        ),
        (lambda: MultiHeadAttention(2, qk_norm="rmsnorm"), "`qk_norm` must be one of"),
        (
            lambda: MultiHeadAttention(2, rotary="yes"),
            "`rotary` must be a dict of arguments",
        ),
        (lambda: MultiHeadAttention(2, rotary={"base": 1}), "Pass some of max_wavelength"),
        (lambda: MultiHeadAttention(2, use_bias=[["query"]]), "`use_bias` must be True, False, or"),
        (lambda: MultiHeadAttention(2, num_key_value_heads=0), "`num_key_value_heads` must be a"),
        (
            lambda: MultiHeadAttention(2)(np.ones((2, 3, 4)), position_bias=np.ones((2, 3, 3))),
            r"`position_bias` must have shape .* here \(2, 2, 3, 3\).*Reshape it to rank 4",
        ),
        (
            lambda: MultiHeadAttention(2)(np.ones((2, 3, 4)), position_bias=np.ones((1, 2, 3, 4))),
            r"a bias of shape \(1, 2, 3, 4\)",
        ),
        (
            lambda: MultiHeadAttention(2)(np.ones((1, 2, 4)), key_mask=np.array([[0, -10000]])),
            "`key_mask` must hold 0 and 1 only.*values from -10000 to 0",
        ),
        (lambda: RotaryEmbedding(rotary_dim=3)(np.ones((1, 2, 1, 4))), "`rotary_dim` must be even"),
        (lambda: RotaryEmbedding(rotary_dim=6)(np.ones((1, 2, 1, 4))), "at most the features"),
        (
            lambda: RotaryEmbedding(max_sequence_length=1)(np.ones((1, 2, 1, 4))),
            "max_sequence_length=2",
        ),
        (lambda: RotaryEmbedding(scaling_factor=0), "`scaling_factor` must be above 0"),
        (
            lambda: RotaryEmbedding(frequency_dtype="half"),
            "`frequency_dtype` must be one of None, 'float32', 'float16'",
        ),
        (lambda: ALiBi(0), "`num_heads` must be a whole number"),
        (lambda: RelativePositionBias(2, num_buckets=6), "a multiple of 4"),
        (lambda: RelativePositionBias(2, max_distance=8), "above a quarter"),
        (
            lambda: RelativePositionBias(2, max_sequence_length=1)(np.ones((1, 2, 4))),
            "max_sequence_length=2",
        ),
        (
            lambda: MultiHeadAttention(2)(np.ones((1, 2, 4)), key_mask=np.array([[0.0, -1e9]])),
            "`key_mask` must hold 0 and 1 only.*`mask == 0` of an additive mask",
        ),
        (
            lambda: MultiHeadAttention(2)(np.ones((1, 2, 4)), key_mask=np.array([[0.5, 1.0]])),
            "values from 0.5 to 1.0",
        ),
        (
            lambda: MultiHeadAttention(2)(np.ones((1, 2, 4)), key_mask=np.ones((1, 3))),
            r"`key_mask` must have shape \(batch, keys\), here \(1, 2\)",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_to_keras_refuses_what_keras_does_not_have():
    layer = MultiHeadAttention(2, rotary={}, use_bias=["query"])
    layer.build((None, 3, 8))
    with pytest.raises(ValueError, match="a layer that sets rotary, use_bias"):
        layer.to_keras()
