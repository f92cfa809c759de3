"""Each rule of `fold` on users' own models: where it may be applied, and where not."""

import keras
import numpy as np
import pytest

from keras_addnorm import layers
from keras_addnorm.export.fold import fold
from tests.common import encoder_inputs, to_numpy
from tests.export.common import own_model, plain_keras_model, randomize
from tests.export.folding import applied, assert_same, compare, encoder, stream


def test_a_keras_mask(rng):
    """A masked query attends to nothing: its output is the bias, which must not change."""
    model = own_model()
    ids = rng.integers(0, 3, size=(4, 9), dtype="int32")
    assert_same(model, ids, value_bias=0, key_bias=1, score_scale=1)


def test_plain_keras(rng):
    model = plain_keras_model()
    folded = assert_same(model, rng.normal(size=(2, 16, 16, 3)).astype("float32"))
    assert not applied(folded)
    assert folded.model.output_names == model.output_names


def pre_norm_model(norm, reader, more_readers=()):
    """norm(x) read by a dense layer, and by others."""
    x = stream()
    n = norm(x)
    return randomize(keras.Model(x, [reader(n), *(other(n) for other in more_readers)]))


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 6, 8)).astype("float32")


STANDALONE = {
    "layer norm": keras.layers.LayerNormalization,
    "no gamma": lambda: keras.layers.LayerNormalization(scale=False),
    "rms norm": keras.layers.RMSNormalization,
    "batch norm": keras.layers.BatchNormalization,
    "no beta": lambda: keras.layers.BatchNormalization(center=False),
    "power norm": layers.PowerNormalization,
    "dynamic tanh": layers.DynamicTanh,
    "affine": layers.Affine,
}


@pytest.mark.parametrize("name", STANDALONE)
def test_a_norm_before_dense_layers(x, name):
    readers = [keras.layers.Dense(3, "relu"), layers.FeedForward(4), layers.Projection(5)]
    for reader in readers:
        model = pre_norm_model(STANDALONE[name](), reader, [layers.MultiHeadAttention(2)])
        assert_same(model, x, norm_into_readers=1)


@pytest.mark.parametrize(
    "norm",
    [
        keras.layers.LayerNormalization(axis=1),
        keras.layers.LayerNormalization(rms_scaling=True),
        keras.layers.BatchNormalization(axis=1),
        keras.layers.GroupNormalization(2),
    ],
    ids=lambda norm: str(norm.get_config().get("axis")),
)
def test_another_norm_is_left_alone(x, norm):
    assert_same(pre_norm_model(norm, keras.layers.Dense(3)), x, norm_into_readers=0)


@pytest.mark.parametrize(
    "other",
    [
        keras.layers.Identity(),
        keras.layers.Activation("relu"),
        layers.SequenceConvolution(3),
        keras.layers.Dense(3, name="quiet"),
    ],
    ids=lambda layer: layer.name,
)
def test_a_norm_that_something_else_reads_stays(x, other):
    model = pre_norm_model(keras.layers.LayerNormalization(), keras.layers.Dense(3), [other])
    assert_same(model, x, norm_into_readers=int(other.name == "quiet"))


def test_a_norm_that_is_an_output_stays(x):
    inputs = stream()
    n = keras.layers.LayerNormalization()(inputs)
    model = randomize(keras.Model(inputs, {"n": n, "y": keras.layers.Dense(3)(n)}))
    assert_same(model, x, norm_into_readers=0)


def test_a_dense_layer_that_reads_something_else_too_stays(x):
    inputs, dense = stream(), keras.layers.Dense(8)
    n = keras.layers.LayerNormalization()(inputs)
    model = randomize(keras.Model(inputs, dense(dense(n))))
    assert_same(model, x, norm_into_readers=0)


def test_a_norm_of_several_calls_that_one_dense_layer_reads(x):
    inputs, dense = stream(), keras.layers.Dense(8)
    norm = keras.layers.LayerNormalization()
    model = randomize(keras.Model(inputs, dense(norm(dense(norm(inputs))))))
    assert_same(model, x, norm_into_readers=1)


def test_a_branch_that_something_else_reads_keeps_its_scale(x):
    inputs = stream()
    y = layers.FeedForward(4)(inputs)
    joined = layers.AddNorm(branch_scale=0.5)(inputs, y)
    model = randomize(keras.Model(inputs, [joined, keras.layers.Dense(2)(y)]))
    assert_same(model, x, branch_scale=0)


def test_a_sublayer_of_two_joints_keeps_their_scales(x):
    inputs, sublayer = stream(), layers.FeedForward(4)
    y = layers.AddNorm(branch_scale=0.5)(inputs, sublayer(inputs))
    y = layers.AddNorm(residual_scale=2.0)(y, sublayer(y))
    assert_same(randomize(keras.Model(inputs, y)), x, branch_scale=0, residual_scale=0)


def test_a_joint_of_the_same_tensor_twice(x):
    inputs = stream()
    y = keras.layers.Dense(8)(inputs)
    model = randomize(keras.Model(inputs, layers.AddNorm(residual_scale=3.0)(y, y)))
    assert_same(model, x, residual_scale=0)


@pytest.mark.parametrize("scale", [2.0, -2.0, 0.0])
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm", "affine"])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_scale_of_the_stream(x, scale, norm, epsilon):
    inputs = stream()
    joint = layers.AddNorm(norm, epsilon, residual_scale=scale)
    model = randomize(keras.Model(inputs, joint(inputs, keras.layers.Dense(8)(inputs))))
    assert_same(model, x, residual_scale=int(scale > 0 and norm != "affine"))


def test_scale_of_the_stream_and_a_norm_of_the_branch(x):
    """One epsilon is of both norms, so it cannot change."""
    for branch_norm, count in (("layer_norm", 0), ("affine", 1), ("batch_norm", 1)):
        inputs = stream()
        joint = layers.AddNorm(residual_scale=2.0, branch_norm=branch_norm, epsilon=0.1)
        model = randomize(keras.Model(inputs, joint(inputs, keras.layers.Dense(8)(inputs))))
        assert_same(model, x, residual_scale=count)


def test_scale_of_the_stream_whose_sum_is_returned(x):
    inputs = stream()
    joint = layers.AddNorm(residual_scale=2.0, return_sum=True)
    model = randomize(keras.Model(inputs, joint(inputs, keras.layers.Dense(8)(inputs))))
    assert_same(model, x, residual_scale=0)


@pytest.mark.parametrize("branch_norm", ["layer_norm", "rms_norm", "dynamic_tanh", "power_norm"])
@pytest.mark.parametrize("axis", [None, -1])
def test_scale_of_a_normalized_branch(x, branch_norm, axis):
    inputs = stream()
    joint = layers.AddNorm(branch_norm=branch_norm, branch_scale=0.5, branch_scale_axis=axis)
    y = keras.layers.Activation("relu")(inputs)
    assert_same(randomize(keras.Model(inputs, joint(inputs, y))), x, branch_scale=1)


def test_norms_given_as_layers(x):
    inputs = stream()
    norm = keras.layers.LayerNormalization(epsilon=0.1, name="mine")
    joint = layers.AddNorm(norm, branch_norm=keras.layers.BatchNormalization(), return_sum=True)
    n, total = joint(inputs, keras.layers.Dense(8)(inputs))
    model = randomize(keras.Model(inputs, [keras.layers.Dense(2)(n), total]))
    assert_same(model, x, norm_into_readers=1, branch_norm=1)


def test_a_norm_for_training_stays(x):
    """`training=True` in the graph means statistics of the batch, at inference too."""
    inputs = stream()
    n = keras.layers.BatchNormalization()(inputs, training=True)
    model = randomize(keras.Model(inputs, keras.layers.Dense(3)(n)))
    assert_same(model, x, norm_into_readers=0, running_statistics=0)


def test_a_head_and_its_norm(x):
    for norm in ("layer_norm", "rms_norm", "affine"):
        inputs = stream()
        outputs = layers.Head(3, hidden_dim=6, norm=norm, use_bias=["dense"])(inputs)
        assert_same(randomize(keras.Model(inputs, outputs)), x, norm_of_head=1)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 1),
        ({"key_mask": True}, 1),
        ({"query_mask": True}, 0),
        ({"attention_mask": True}, 0),
        ({"use_causal_mask": True}, 1),
    ],
    ids=str,
)
def test_masks_and_the_bias_of_values(rng, x, arguments, count):
    inputs, masks = stream(), {}
    for name in [name for name in arguments if name != "use_causal_mask"]:
        shape = (6, 6) if name == "attention_mask" else (6,)
        masks[name] = keras.Input(shape, dtype="int32", name=name)
    given = {"use_causal_mask": arguments.get("use_causal_mask", False), **masks}
    y = layers.MultiHeadAttention(2)(inputs, **given)
    values = {
        name: (rng.random((3, *mask.shape[1:])) < 0.6).astype("int32")
        for name, mask in masks.items()
    }
    if "key_mask" in values:
        values["key_mask"][:, 0] = 1
    model = randomize(keras.Model({"x": inputs, **masks}, y))
    assert_same(model, {"x": x, **values}, value_bias=count)


@pytest.mark.parametrize(
    ("window", "causal", "count"), [(None, False, 1), (2, False, 0), (None, True, 0)]
)
def test_other_keys_within_a_window_may_be_none(rng, x, window, causal, count):
    """A late query may see no key at all of a short sequence."""
    inputs, keys = stream(), keras.Input((2, 8), name="keys")
    attention = layers.MultiHeadAttention(2, sliding_window=window)
    y = attention(inputs, keys, use_causal_mask=causal)
    model = randomize(keras.Model({"x": inputs, "keys": keys}, y))
    other = rng.normal(size=(3, 2, 8)).astype("float32")
    assert_same(model, {"x": x, "keys": other}, value_bias=count)


def test_output_of_a_sequence_of_padding_only(rng):
    """What `fold` says of it: the value bias is in the output bias, there too."""
    inputs, mask = stream(), keras.Input((6,), dtype="int32", name="mask")
    attention = layers.MultiHeadAttention(2)
    outputs = attention(inputs, key_mask=mask)
    model = randomize(keras.Model({"x": inputs, "mask": mask}, outputs))
    given = {"x": rng.normal(size=(1, 6, 8)).astype("float32"), "mask": np.zeros((1, 6), "int32")}
    moved = to_numpy(attention.value_dense.bias) @ to_numpy(attention.output_dense.kernel)
    got, want = to_numpy(fold(model).model(given)), to_numpy(model(given))
    np.testing.assert_allclose(want, np.broadcast_to(attention.output_dense.bias, want.shape))
    np.testing.assert_allclose(got, want + moved, atol=1e-6)


def test_attention_scores_as_an_output(x):
    inputs = stream()
    y, scores = layers.MultiHeadAttention(2)(inputs, return_attention_scores=True)
    model = randomize(
        keras.Model(inputs, {"y": layers.AddNorm(branch_scale=0.5)(inputs, y), "s": scores})
    )
    assert_same(model, x, branch_scale=1, key_bias=1, value_bias=1)


def test_names_of_layers_in_two_encoders(rng):
    """Both are taken apart, and their layers have the same names."""
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "padding_mask")
    }
    parts = [encoder(name=name)(inputs)["sequence_output"] for name in ("one", "two")]
    assert_same(randomize(keras.Model(inputs, parts)), encoder_inputs(rng), key_bias=4)


def test_an_output_of_a_model_inside_keeps_its_name(rng, x):
    inner_input = stream()
    inner = keras.Model(inner_input, keras.layers.Dense(3, name="last")(inner_input), name="scores")
    inputs = stream()
    model = randomize(keras.Model(inputs, inner(inputs)))
    folded = assert_same(model, x)
    assert folded.model.output_names == model.output_names == ["scores"]


def test_lora(rng):
    model = encoder()
    model.enable_lora(2)
    for weight in model.weights:
        if weight.name.startswith("lora_"):
            weight.assign(rng.normal(size=weight.shape))
    folded = fold(model).model
    compare(model, folded, encoder_inputs(rng))
    assert not [w.path for w in folded.weights if "lora" in w.path]


def test_operations_that_are_no_layers(x):
    inputs = stream()
    n = keras.layers.LayerNormalization()(inputs)
    y = keras.ops.mean(keras.layers.Dense(4)(n), axis=1) * 2.0 + keras.ops.tanh(inputs)[:, 0, :4]
    assert_same(randomize(keras.Model(inputs, y)), x, norm_into_readers=1)


def test_a_backbone_of_keras_hub(rng):
    from keras_hub.models import BertBackbone

    model = randomize(BertBackbone(11, 2, 2, 8, 16, dropout=0.0, max_sequence_length=10))
    assert not applied(assert_same(model, encoder_inputs(rng, segments=True)))
