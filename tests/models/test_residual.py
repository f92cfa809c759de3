"""The residual schemes: what the papers say of them."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_addnorm.layers import AddNorm
from keras_addnorm.models import RESIDUALS, Residual, TransformerEncoder
from tests.common import TINY_ENCODER, encoder_inputs, to_numpy


@pytest.mark.parametrize("name", RESIDUALS)
def test_residuals_are_data(name):
    residual = RESIDUALS[name]
    assert residual.carries in ("normed", "total")
    assert "arXiv:" in residual.source


def test_constants_of_deep_norm():
    """Table 1 of arXiv:2203.00555, encoder-only, at the paper's 6 layers."""
    scheme = RESIDUALS["deep_norm"]
    assert round(scheme.residual_scale(6), 3) == 1.861
    assert round(scheme.kernel_gain(6), 3) == 0.380


def test_deep_norm_starts_value_output_and_feed_forward_kernels_smaller():
    sizes = {**TINY_ENCODER, "hidden_dim": 64, "intermediate_dim": 64, "num_layers": 6}
    encoder = TransformerEncoder(**sizes, residual="deep_norm")
    limit = np.sqrt(6 / (64 + 64))  # of Glorot's uniform values
    smaller = {"value", "attention/output", "intermediate", "feed_forward/output"}
    kernels = [w for w in encoder.weights if w.path.endswith("kernel")]
    assert len(kernels) == 6 * 6
    for kernel in kernels:
        gain = 0.380 if any(f"{name}/kernel" in kernel.path for name in smaller) else 1.0
        largest = np.abs(to_numpy(kernel.value)).max()
        # Of 4096 uniform values the largest is within 1% of the limit.
        np.testing.assert_allclose(largest, gain * limit, rtol=0.01, err_msg=kernel.path)
    joint = encoder.get_layer("layer_3_attention_add_norm")
    assert joint.residual_scale == pytest.approx(12**0.25)


def test_deep_norm_of_a_callable_initializer():
    def half(shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype)

    encoder = TransformerEncoder(**TINY_ENCODER, residual="deep_norm", kernel_initializer=half)
    kernels = {w.path: to_numpy(w.value) for w in encoder.weights if w.path.endswith("kernel")}
    np.testing.assert_array_equal(kernels["layer_0_attention/query/kernel"], 0.5)
    gain = np.float32(0.5 * 16**-0.25)
    np.testing.assert_allclose(kernels["layer_0_attention/value/kernel"], gain, rtol=1e-6)


def test_re_zero_is_the_identity_at_the_start(rng):
    encoder = TransformerEncoder(**TINY_ENCODER, residual="re_zero", num_segments=2)
    inputs = encoder_inputs(rng, segments=True)
    embeddings = encoder.get_layer("embeddings")(inputs["token_ids"], inputs["segment_ids"])
    output = encoder(inputs)["sequence_output"]
    np.testing.assert_array_equal(to_numpy(output), to_numpy(embeddings))
    scales = [w for w in encoder.trainable_weights if w.path.endswith("branch_scale")]
    assert [w.shape for w in scales] == [()] * 4  # one scalar a joint
    assert not [w.path for w in encoder.weights if "norm/" in w.path.split("add_norm")[-1]]


def test_layer_scale_starts_at_its_constant():
    encoder = TransformerEncoder(**TINY_ENCODER, residual="layer_scale")
    scales = [w for w in encoder.trainable_weights if w.path.endswith("branch_scale")]
    assert len(scales) == 4
    for scale in scales:
        np.testing.assert_array_equal(to_numpy(scale.value), np.full(8, 1e-5, "float32"))


def test_sandwich_norm_normalizes_branches_and_sum():
    encoder = TransformerEncoder(**TINY_ENCODER, residual="sandwich_norm", norm="rms_norm")
    joints = [x for x in encoder.layers if isinstance(x, AddNorm)]
    assert len(joints) == 4
    for joint in joints:
        for norm in (joint.branch_norm_layer, joint.norm_layer):
            assert isinstance(norm, keras.layers.RMSNormalization)


@pytest.mark.parametrize(("layers", "rates"), [(1, [0.3]), (4, [0.0, 0.1, 0.2, 0.3])])
def test_drop_path_grows_linearly_with_depth(layers, rates):
    encoder = TransformerEncoder(**{**TINY_ENCODER, "num_layers": layers}, drop_path=0.3)
    for i, rate in enumerate(rates):
        for sublayer in ("attention", "feed_forward"):
            joint = encoder.get_layer(f"layer_{i}_{sublayer}_add_norm")
            assert joint.drop_path == pytest.approx(rate)


def test_drop_path_acts_in_training_only(rng):
    keras.utils.set_random_seed(1)
    encoder = TransformerEncoder(**TINY_ENCODER, drop_path=0.9, dropout=0.0)
    inputs = encoder_inputs(rng)
    still = to_numpy(encoder(inputs)["sequence_output"])
    np.testing.assert_array_equal(still, to_numpy(encoder(inputs)["sequence_output"]))
    training = to_numpy(encoder(inputs, training=True)["sequence_output"])
    assert not np.allclose(training, still)


def test_a_new_scheme_is_one_entry(rng, monkeypatch):
    """A post-norm encoder whose branches start at half their size."""
    scheme = Residual("normed", "a test", branch_scale=0.5)
    monkeypatch.setitem(RESIDUALS, "half", scheme)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.carries = "total"
    encoder = TransformerEncoder(**TINY_ENCODER, residual="half")
    plain = TransformerEncoder(**TINY_ENCODER)
    inputs = encoder_inputs(rng)
    values = {w.path: w.value for w in encoder.weights}
    for weight in plain.weights:
        weight.assign(values[weight.path])
    assert not np.allclose(
        to_numpy(encoder(inputs)["sequence_output"]), to_numpy(plain(inputs)["sequence_output"])
    )
    for weight in encoder.weights:
        if weight.path.endswith("branch_scale"):
            weight.assign(1.0)
    np.testing.assert_array_equal(
        to_numpy(encoder(inputs)["sequence_output"]), to_numpy(plain(inputs)["sequence_output"])
    )
