"""AddNorm: values, the residual schemes it serves, masks, half precision, errors."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import AddNorm
from keras_addnorm.layers.norms import NORMS
from tests import reference
from tests.common import keras_mask, randomize, to_numpy, weights_of

# Sums of 8 float32 numbers of size 1, a square root and a division: a few units of 6e-8 each.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
SHAPE = (2, 5, 8)


def pair(rng, shape=SHAPE):
    return rng.normal(size=shape).astype("float32"), rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm", "none"])
@pytest.mark.parametrize("residual_scale", [1.0, 2.5])
@pytest.mark.parametrize("branch_scale", [None, 0.5])
def test_values(rng, kind, residual_scale, branch_scale):
    x, y = pair(rng)
    layer = AddNorm(
        kind,
        epsilon=1e-3,
        residual_scale=residual_scale,
        branch_scale=branch_scale,
        return_sum=True,
    )
    layer(x, y)
    randomize(layer, rng)
    expected = reference.add_norm(weights_of(layer), x, y, kind, 1e-3, residual_scale)
    for got, want in zip(layer(x, y), expected, strict=True):
        np.testing.assert_allclose(to_numpy(got), want, **TOLERANCE)


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (2, 3, 4, 8)])
def test_normalizes_the_last_axis_of_any_rank(rng, shape):
    x, y = pair(rng, shape)
    layer = AddNorm()
    layer(x, y)
    randomize(layer, rng)
    want, _ = reference.add_norm(weights_of(layer), x, y)
    np.testing.assert_allclose(to_numpy(layer(x, y)), want, **TOLERANCE)


def test_return_sum_gives_the_same_normed_value(rng):
    x, y = pair(rng)
    normed, total = AddNorm(return_sum=True)(x, y)
    np.testing.assert_array_equal(to_numpy(AddNorm()(x, y)), to_numpy(normed))
    np.testing.assert_array_equal(to_numpy(total), x + y)


def test_constant_row_normalizes_to_zero():
    ones = np.ones((1, 2, 8), "float32")
    np.testing.assert_array_equal(to_numpy(AddNorm()(ones, ones)), np.zeros((1, 2, 8)))


@pytest.mark.parametrize("start", [0, 0.0, 0.75])
def test_branch_scale_is_one_trainable_scalar(rng, start):
    x, y = pair(rng)
    layer = AddNorm("none", branch_scale=start)
    # x + start * y in float32: one rounding of the product, one of the sum.
    np.testing.assert_allclose(to_numpy(layer(x, y)), x + start * y, rtol=1e-6, atol=1e-6)
    assert [tuple(w.shape) for w in layer.trainable_weights] == [()]


def test_dropout_drops_the_branch_only(rng):
    x, y = pair(rng, (4, 50, 8))
    layer = AddNorm("none", dropout=0.5)
    np.testing.assert_array_equal(to_numpy(layer(x, y)), x + y)
    got = to_numpy(layer(x, y, training=True))
    dropped, kept = got == x, got == x + 2 * y
    assert np.all(dropped | kept)
    # 1600 fair coins: the share strays by 0.0125 (one deviation), so 0.1 is eight of them.
    assert abs(dropped.mean() - 0.5) < 0.1


def test_norm_given_as_a_layer_is_copied(rng):
    x, y = pair(rng)
    norm = keras.layers.LayerNormalization(epsilon=0.1, center=False)
    first, second = AddNorm(norm), AddNorm(norm)
    got = to_numpy(first(x, y))
    np.testing.assert_allclose(got, reference.layer_norm(x + y, 1.0, 0.0, 0.1), **TOLERANCE)
    second(x, y)
    assert not norm.built
    assert first.norm_layer is not norm and first.norm_layer is not second.norm_layer
    assert len(first.weights) == 1
    revived = AddNorm.from_config(first.get_config())
    np.testing.assert_array_equal(to_numpy(revived(x, y)), got)


@pytest.mark.parametrize("return_sum", [False, True])
def test_mask_of_the_residual_stream_survives(return_sum):
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    x = keras.layers.Embedding(5, 8, mask_zero=True)(ids)
    y = keras.layers.Embedding(5, 8)(ids)
    outputs = keras.tree.flatten(AddNorm(return_sum=return_sum)(x, y))
    assert len(outputs) == 1 + return_sum
    for output in outputs:
        np.testing.assert_array_equal(keras_mask(output), ids != 0)


def test_layer_scale_is_one_trainable_scale_a_feature(rng):
    x, y = pair(rng)
    layer = AddNorm("none", branch_scale=1e-5, branch_scale_axis=-1)
    # x + 1e-5 * y in float32: one rounding of the product, one of the sum.
    np.testing.assert_allclose(to_numpy(layer(x, y)), x + 1e-5 * y, rtol=1e-6, atol=1e-6)
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(8,)]
    randomize(layer, rng)
    want, _ = reference.add_norm(weights_of(layer), x, y, "none")
    np.testing.assert_allclose(to_numpy(layer(x, y)), want, **TOLERANCE)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", NORMS)
def test_branch_norm_comes_before_scale_and_sum(rng, kind, training):
    x, y = pair(rng)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], "int32")
    layer = AddNorm("layer_norm", 1e-3, 2.0, 0.5, 0.0, True, -1, kind)
    layer(x, y)
    randomize(layer, rng)
    weights = weights_of(layer)
    wants = reference.add_norm(weights, x, y, "layer_norm", 1e-3, 2.0, kind, mask, training)
    for got, want in zip(layer(x, y, mask=mask, training=training), wants, strict=True):
        np.testing.assert_allclose(to_numpy(got), want, **TOLERANCE)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm", "dynamic_tanh", "none"])
def test_mask_does_not_matter_to_norms_of_one_position(rng, kind):
    x, y = pair(rng)
    layer = AddNorm(kind)
    assert not layer.uses_mask and AddNorm(branch_norm="batch_norm").uses_mask
    want = to_numpy(layer(x, y, training=True))
    for mask in (np.zeros((2, 5), "int32"), np.zeros((2,), bool)):
        np.testing.assert_array_equal(to_numpy(layer(x, y, mask=mask, training=True)), want)


def test_drop_path_drops_the_branch_of_whole_samples(rng):
    x, y = pair(rng, (400, 3, 4))
    layer = AddNorm("none", drop_path=0.2)
    np.testing.assert_array_equal(to_numpy(layer(x, y)), x + y)
    got = to_numpy(layer(x, y, training=True))
    dropped = (got == x).all(axis=(1, 2))
    np.testing.assert_array_equal(got[dropped], x[dropped])
    # A product by 1.25 and a sum, each rounded once.
    kept = (x + 1.25 * y)[~dropped]
    np.testing.assert_allclose(got[~dropped], kept, rtol=1e-6, atol=1e-6)
    # 400 samples: the share strays by 0.02 (one deviation), so 0.1 is five of them; the mean of
    # the branch is then kept, on average, to the same 0.1 / 0.8.
    assert abs(dropped.mean() - 0.2) < 0.1
    ones = to_numpy(layer(np.zeros_like(x), np.ones_like(x), training=True))
    assert abs(ones.mean() - 1.0) < 0.125
    again = to_numpy(layer(x, y, training=True))
    assert (again != got).any()  # each call decides anew


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_with_every_part(rng, jit_compile, tmp_path):
    x, y, mask = keras.Input((5, 8)), keras.Input((5, 8)), keras.Input((5,), dtype="bool")
    layer = AddNorm(
        "power_norm",
        branch_scale=0.1,
        branch_scale_axis=-1,
        branch_norm="batch_norm",
        dropout=0.1,
        drop_path=0.2,
    )
    model = keras.Model([x, y, mask], layer(x, y, mask=mask))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    data = [*pair(rng), rng.random((2, 5)) < 0.7]
    before = [to_numpy(w) for w in layer.trainable_weights]
    model.fit(data, np.ones(SHAPE, "float32"), verbose=0)
    assert all(np.isfinite(to_numpy(weight)).all() for weight in layer.trainable_weights)
    assert any(
        (to_numpy(w) != b).any() for w, b in zip(layer.trainable_weights, before, strict=True)
    )
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(data, verbose=0), model.predict(data, verbose=0))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm", "none"])
def test_half_precision(rng, dtype, kind):
    x, y = pair(rng)
    layer = AddNorm(kind, dtype=dtype)
    output = layer(x, y)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    want, _ = reference.add_norm(weights_of(layer), x, y, kind)
    # Two inputs, a sum and an output are rounded, each by 2^-9 (bfloat16) or 2^-12 (float16)
    # of a value up to 4; the norm divides by about 1.4.
    atol = 0.06 if "bfloat16" in dtype else 0.008
    np.testing.assert_allclose(to_numpy(output), want, rtol=0, atol=atol)


def test_half_precision_norm_survives_squares_beyond_float16(rng):
    x = 1000 * rng.normal(size=SHAPE).astype("float32")  # squares overflow float16 (65504)
    output = to_numpy(AddNorm(dtype="float16")(x, x))
    assert np.isfinite(output).all()
    assert 0.9 < output.std() < 1.1


def test_norm_layer_works_in_the_precision_of_the_owner(rng):
    x, y = pair(rng)
    layer = AddNorm(keras.layers.LayerNormalization(), dtype="mixed_float16")
    symbolic = layer(keras.Input(SHAPE[1:]), keras.Input(SHAPE[1:]))
    assert keras.backend.standardize_dtype(layer(x, y).dtype) == symbolic.dtype == "float16"


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"norm": "batch"}, "norm", "'affine', 'none', or a Keras layer"),
        ({"branch_norm": "batch"}, "branch_norm", "'affine', 'none', or a Keras layer"),
        ({"branch_scale_axis": -1}, "branch_scale_axis", "Pass for instance branch_scale=1e-5"),
        ({"branch_scale_axis": 1, "branch_scale": 1.0}, "branch_scale_axis", "or -1"),
        ({"branch_scale_axis": True, "branch_scale": 1.0}, "branch_scale_axis", "or -1"),
        ({"drop_path": 1.0}, "drop_path", "Pass for instance 0.1"),
        ({"drop_path": "x"}, "drop_path", "Pass a float"),
        ({"norm": None}, "norm", "Keras layer instance"),
        ({"epsilon": 0.0}, "epsilon", "Pass a small float such as 1e-5"),
        ({"epsilon": -1e-5}, "epsilon", "Pass a small float such as 1e-5"),
        ({"epsilon": float("nan")}, "epsilon", "finite"),
        ({"epsilon": float("inf")}, "epsilon", "finite"),
        ({"epsilon": "1e-5"}, "epsilon", "Pass a float"),
        ({"residual_scale": float("inf")}, "residual_scale", "finite"),
        ({"residual_scale": True}, "residual_scale", "Pass a float"),
        ({"branch_scale": float("nan")}, "branch_scale", "finite"),
        ({"branch_scale": "x"}, "branch_scale", "Pass a float"),
        ({"dropout": 1.0}, "dropout", "Pass for instance 0.1"),
        ({"dropout": -0.1}, "dropout", "Pass for instance 0.1"),
        ({"dropout": float("nan")}, "dropout", "finite"),
        ({"norm": {"a": 1}}, "norm", "or a Keras layer instance"),
        ({"norm": 3}, "norm", "or a Keras layer instance"),
        ({"branch_norm": "bach_norm"}, "branch_norm", "'batch_norm'"),
        ({"residual_scal": 2.0}, "residual_scal", "Did you mean `residual_scale`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError, match="AddNorm") as error:
        AddNorm(**kwargs)
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)


@pytest.mark.parametrize("call", [lambda x: AddNorm()([x, x]), lambda x: AddNorm()(x)])
def test_one_list_or_one_tensor_is_refused(rng, call):
    with pytest.raises(ValueError, match=r"Call `AddNorm\(\)\(x, y\)`, not"):
        call(pair(rng)[0])


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 1, 8), (5, 8)])
def test_shapes_that_differ_are_refused(rng, shape):
    x, y = np.zeros(SHAPE, "float32"), np.zeros(shape, "float32")
    with pytest.raises(ValueError, match="same shape.*output_dim"):
        AddNorm()(x, y)


def test_shapes_that_differ_are_refused_after_the_first_call_too():
    x = np.zeros(SHAPE, "float32")
    layer = AddNorm()
    layer(x, x)
    with pytest.raises(ValueError, match="same shape"):
        layer(x, x[:, :1])


def test_unknown_length_beside_a_known_one_is_no_difference(rng):
    x, y = keras.Input((None, 8)), keras.Input((5, 8))
    model = keras.Model([x, y], AddNorm()(x, y))
    a, b = pair(rng)
    want, _ = reference.add_norm({"norm/gamma": 1.0, "norm/beta": 0.0}, a, b)
    np.testing.assert_allclose(to_numpy(model([a, b])), want, **TOLERANCE)


@pytest.mark.parametrize("norm", ["batch_norm", "power_norm"])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.array([[0.0, -1e9, 0.0]]), "`mask` must hold 0 and 1 only"),
        (np.array([[1.0, 0.5, 1.0]]), "values from 0.5 to 1.0"),
        (np.ones((2, 3)), "a mask of shape"),
        (np.ones((1, 3, 1)), "a mask of shape"),
    ],
)
def test_what_is_no_mask_is_refused(rng, norm, mask, message):
    x = rng.normal(size=(3, 3, 4))
    with pytest.raises(ValueError, match=message):
        AddNorm(norm)(x, x, mask=mask, training=True)


@pytest.mark.parametrize("norm", ["batch_norm", "power_norm"])
def test_one_row_of_a_mask_counts_for_every_sequence(rng, norm):
    x = rng.normal(size=(4, 3, 8)).astype("float32")
    row = np.array([[1, 1, 0]])
    outputs = []
    for mask in (row, np.repeat(row, 4, 0)):
        layer = AddNorm(norm)
        outputs.append(to_numpy(layer(x, x, mask=mask, training=True)))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch_norm", "power_norm"])
def test_keras_mask_and_mask_combine(rng, norm):
    """A position that either hides is in no statistic."""
    x = rng.normal(size=(2, 4, 8)).astype("float32")
    attached = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)
    mask = np.array([[1, 1, 0, 1], [1, 0, 1, 1]], bool)
    both = attached & mask
    outputs = []
    for value in (7.0, -30.0):
        marked = np.where(attached[..., None], np.where(mask[..., None], x, value), 99.0)
        masked = keras.layers.Masking(99.0)(marked.astype("float32"))
        outputs.append(to_numpy(AddNorm(norm)(masked, masked, mask=mask, training=True))[both])
    np.testing.assert_array_equal(outputs[0], outputs[1])
