"""The norms a joint may use: values, statistics over unpadded positions only, half precision."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_addnorm.layers import AddNorm, Affine, DynamicTanh, PowerNormalization
from keras_addnorm.layers.norms import NORMS, make_norm
from tests import reference
from tests.common import keras_mask, randomize, to_numpy, weights_of, with_keras_mask

# Sums of up to 24 float32 numbers of size 1, a square root and a division: a few units of 6e-8.
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}
# Running averages: products and sums of numbers of size 1 to 10, three steps of each.
RUNNING = {"rtol": 2e-6, "atol": 1e-6}
SHAPE = (4, 6, 8)
MASK = np.arange(6) < np.array([6, 4, 1, 0])[:, None]  # one row full, one row with nothing
MASKED = ["batch_norm", "power_norm"]
STATISTICS = {"batch_norm": ("moving_mean", "moving_variance"), "power_norm": ("moving_square",)}


def inputs(rng, shape=SHAPE):
    """Values off zero, with another mean for each feature, so that a lost mean shows."""
    return (rng.normal(size=shape) + np.linspace(-2, 2, shape[-1])).astype("float32")


def built(kind, rng, shape=SHAPE):
    layer = make_norm("Test", kind, 1e-3, name="norm")
    layer.build(shape)
    return randomize(layer, rng)


def moments(kind, x, mask):
    mean, variance, square = reference.batch_moments(x, mask)
    return (mean, variance) if kind == "batch_norm" else (square,)


@pytest.mark.parametrize("kind", NORMS)
def test_values_at_inference(rng, kind):
    layer, x = built(kind, rng), inputs(rng)
    want = reference.norm(weights_of(layer), x, kind, 1e-3)
    np.testing.assert_allclose(to_numpy(layer(x, training=False)), want, **TOLERANCE)


@pytest.mark.parametrize("shape", [(4, 8), (4, 6, 8), (2, 3, 4, 8)])
@pytest.mark.parametrize("kind", NORMS)
def test_values_while_training(rng, kind, shape):
    layer, x = built(kind, rng, shape), inputs(rng, shape)
    want = reference.norm(weights_of(layer), x, kind, 1e-3, training=True)
    np.testing.assert_allclose(to_numpy(layer(x, training=True)), want, **TOLERANCE)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
@pytest.mark.parametrize("kind", MASKED)
def test_padded_positions_stay_out_of_the_statistics(rng, kind, dtype):
    layer, x, zero = AddNorm(kind, epsilon=1e-3), inputs(rng), np.zeros(SHAPE, "float32")
    layer.build(SHAPE, SHAPE)
    randomize(layer, rng)
    before = weights_of(layer)
    mask = ops.convert_to_tensor(MASK.astype(dtype))
    got = to_numpy(layer(x, zero, mask=mask, training=True))
    want, _ = reference.add_norm(before, x, zero, kind, 1e-3, mask=MASK, training=True)
    np.testing.assert_allclose(got, want, **TOLERANCE)
    after = weights_of(layer)
    for name, value in zip(STATISTICS[kind], moments(kind, x, MASK), strict=True):
        running = 0.99 * before[f"norm/{name}"] + 0.01 * value
        np.testing.assert_allclose(after[f"norm/{name}"], running, **RUNNING)


@pytest.mark.parametrize("content", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("kind", MASKED)
def test_content_of_padded_positions_reaches_nothing(rng, kind, content):
    x = inputs(rng)
    dirty = np.where(MASK[..., None], x, np.float32(content))
    outcomes = []
    for data in (x, dirty):
        layer = make_norm("Test", kind, 1e-3)
        output = to_numpy(layer(data, mask=ops.convert_to_tensor(MASK), training=True))
        outcomes.append((output[MASK], *map(to_numpy, layer.non_trainable_variables)))
    for clean, other in zip(*outcomes, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_array_equal(other, clean)


@pytest.mark.parametrize("kind", MASKED)
def test_running_statistics_after_several_steps_serve_inference(rng, kind):
    layer = make_norm("Test", kind, 1e-3)
    layer.build(SHAPE)
    running = [np.zeros(8), np.ones(8)] if kind == "batch_norm" else [np.ones(8)]
    for _ in range(3):
        x, mask = inputs(rng), rng.random(SHAPE[:2]) < 0.6
        layer(x, mask=ops.convert_to_tensor(mask), training=True)
        values = moments(kind, x, mask)
        running = [0.99 * r + 0.01 * v for r, v in zip(running, values, strict=True)]
    for name, want in zip(STATISTICS[kind], running, strict=True):
        np.testing.assert_allclose(to_numpy(getattr(layer, name)), want, **RUNNING)
    want = reference.norm(weights_of(layer), x, kind, 1e-3)
    for mask in (None, ops.convert_to_tensor(MASK)):  # at inference a mask changes nothing
        np.testing.assert_allclose(to_numpy(layer(x, mask=mask)), want, **TOLERANCE)
    for name, want in zip(STATISTICS[kind], running, strict=True):  # nor are there more steps
        np.testing.assert_allclose(to_numpy(getattr(layer, name)), want, **RUNNING)


def test_power_norm_without_an_unpadded_position_uses_and_leaves_the_running_average(rng):
    layer, x = built("power_norm", rng), inputs(rng)
    want = to_numpy(layer(x, training=False))
    before = to_numpy(layer.moving_square)
    got = layer(x, mask=ops.zeros(SHAPE[:2], "bool"), training=True)
    np.testing.assert_allclose(to_numpy(got), want, rtol=1e-6, atol=1e-6)
    # 0.99 s + 0.01 s, rounded: two units of 6e-8.
    np.testing.assert_allclose(to_numpy(layer.moving_square), before, rtol=2e-7)


@pytest.mark.parametrize("kind", MASKED)
def test_frozen_norm_uses_and_leaves_the_running_averages(rng, kind):
    layer, x = built(kind, rng), inputs(rng)
    layer.trainable = False
    before = weights_of(layer)
    want = to_numpy(layer(x, training=False))
    np.testing.assert_array_equal(to_numpy(layer(x, training=True)), want)
    for name, value in weights_of(layer).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("kind", MASKED)
def test_fit_uses_the_keras_mask(rng, kind, jit_compile):
    ids = MASK * rng.integers(1, 5, size=SHAPE[:2])
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(5, 8, mask_zero=True, name="table")(tokens)
    model = keras.Model(tokens, AddNorm(kind, name="joint")(x, x))
    table = rng.normal(size=(5, 8)).astype("float32")
    model.get_layer("table").embeddings.assign(table)
    norm = model.get_layer("joint").norm_layer
    before = [to_numpy(getattr(norm, name)) for name in STATISTICS[kind]]
    model.compile("sgd", "mse", jit_compile=jit_compile)
    model.fit(ids, np.ones(SHAPE, "float32"), batch_size=4, epochs=1, verbose=0)
    values = moments(kind, 2 * table[ids], MASK)
    for name, start, value in zip(STATISTICS[kind], before, values, strict=True):
        got = to_numpy(getattr(norm, name))
        np.testing.assert_allclose(got, 0.99 * start + 0.01 * value, **RUNNING)


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", NORMS)
def test_half_precision_up_to_10000(rng, kind, dtype):
    layer = make_norm("Test", kind, 1e-5, dtype=dtype)
    x = np.clip(1e4 * rng.normal(size=(4, 6, 256)), -1e4, 1e4)  # squares overflow float16
    x = to_numpy(ops.cast(ops.convert_to_tensor(x.astype("float32")), layer.compute_dtype))
    half = ops.cast(ops.convert_to_tensor(x), layer.compute_dtype)
    layer.build(x.shape)
    for training in (True, False):
        weights = weights_of(layer)
        output = layer(half, training=training)
        assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
        want = reference.norm(weights, x, kind, 1e-5, training=training)
        # Everything but the output's own rounding, 2^-9 or 2^-12 of it, happens in float32, in
        # which layer norm subtracts its mean: 1e-6 of the size. Keras rounds the rms_norm scale
        # of ones in half precision, which is exact.
        unit = 2.0**-8 if "bfloat16" in dtype else 2.0**-11
        np.testing.assert_allclose(to_numpy(output), want, rtol=unit, atol=2e-5)
    for weight in layer.non_trainable_variables:
        assert weight.dtype == "float32" and np.isfinite(to_numpy(weight)).all()
    constant = ops.full((1, 2, 256), 1e4, dtype=layer.compute_dtype)
    for training in (True, False):
        assert np.isfinite(to_numpy(layer(constant, training=training))).all()


def test_dynamic_tanh_starts_at_half_the_slope(rng):
    x = inputs(rng)
    layer = DynamicTanh()
    # float32 tanh is within a few units of 6e-8 of the true one.
    np.testing.assert_allclose(to_numpy(layer(x)), np.tanh(0.5 * x), rtol=1e-6, atol=1e-6)
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(), (8,), (8,)]


@pytest.mark.parametrize("kind", NORMS)
def test_config_is_json_and_revives_the_norm(rng, kind):
    layer, x = built(kind, rng), inputs(rng)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    revived = keras.saving.deserialize_keras_object(config)
    revived.set_weights(layer.get_weights())
    np.testing.assert_array_equal(to_numpy(revived(x)), to_numpy(layer(x)))


@pytest.mark.parametrize("kind", NORMS)
def test_saved_statistics_come_back(rng, kind, tmp_path):
    x, y = keras.Input(SHAPE[1:]), keras.Input(SHAPE[1:])
    model = keras.Model([x, y], AddNorm(kind, branch_norm=kind)(x, y))
    data = [inputs(rng), inputs(rng)]
    model(data, training=True)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(to_numpy(loaded(data)), to_numpy(model(data)))


def test_power_norm_keeps_the_keras_mask():
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    x = keras.layers.Embedding(5, 8, mask_zero=True)(ids)
    layer = PowerNormalization()
    output = layer(x, training=True)
    np.testing.assert_array_equal(keras_mask(output), ids != 0)
    want = 0.99 + 0.01 * reference.batch_moments(to_numpy(x), ids != 0)[2]
    np.testing.assert_allclose(to_numpy(layer.moving_square), want, **RUNNING)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PowerNormalization(epsilon=0.0), "`epsilon` must be above 0.*Pass a small"),
        (lambda: PowerNormalization(epsilonn=1.0), "Did you mean `epsilon`"),
        (lambda: DynamicTanh(alpha=float("nan")), "`alpha` must be a finite.*Pass a float"),
        (lambda: DynamicTanh(alfa=1.0), "Did you mean `alpha`"),
        (lambda: Affine(epsilon=1e-5), "Affine has no argument `epsilon`"),
    ],
)
def test_bad_argument_is_named_with_its_fix(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", MASKED)
@pytest.mark.parametrize("shape", [(4,), (4, 6, 8)])
def test_mask_of_the_wrong_rank_is_refused(rng, kind, shape):
    x = inputs(rng)
    with pytest.raises(ValueError, match=r"AddNorm: `mask` must have .*Received.*Reshape it"):
        AddNorm(kind)(x, x, mask=np.ones(shape, "int32"))
    with pytest.raises(ValueError, match="PowerNormalization: `mask`"):
        PowerNormalization()(x, mask=np.ones(shape, "int32"), training=True)


@pytest.mark.parametrize("kind", NORMS)
def test_an_input_with_a_mask_gives_no_warning(kind, recwarn):
    keep = np.array([[1, 1, 0], [1, 0, 0]])
    x = with_keras_mask(np.ones((2, 3, 8), "float32"), keep)
    output = AddNorm(kind, branch_norm=kind)(x, x)
    np.testing.assert_array_equal(keras_mask(output), keep)
    assert [str(w.message) for w in recwarn if "mask" in str(w.message)] == []
