"""Our encoder against a stack of KerasHub's encoder blocks with the same weights."""

import keras
import keras_hub
import numpy as np
import pytest

from keras_addnorm.layers import TransformerEncoderLayer
from keras_addnorm.models import TransformerEncoder
from tests.common import TINY_ENCODER, encoder_inputs, randomize, to_numpy

# Two blocks of float32 sums of 8 and 16 products of values around 1, in different orders.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
BLOCK = {"num_heads": 2, "intermediate_dim": 16}


def copy_weights(sources, target):
    """Sets the weights of the layer `target` to those of the layers in `sources`, in order.

    KerasHub's attention keeps the heads as an axis of its kernels; the order of the numbers is
    the same.
    """
    values = [w for layer in sources for w in layer.weights]
    values = [w for w in values if keras.backend.is_float_dtype(w.dtype)]
    weights = [w for w in target.weights if keras.backend.is_float_dtype(w.dtype)]
    for weight, value in zip(weights, values, strict=True):
        assert weight.path.split("/")[-1] == value.path.split("/")[-1]
        weight.assign(keras.ops.reshape(value, weight.shape))


def copy_block(theirs, attention, feed_forward):
    """Sets our two sublayers to those of a block of KerasHub's."""
    theirs = {layer.name: layer for layer in theirs._flatten_layers(recursive=False)}
    copies = {
        attention.query_dense: "self_attention_layer/query",
        attention.key_dense: "self_attention_layer/key",
        attention.value_dense: "self_attention_layer/value",
        attention.output_dense: "self_attention_layer/attention_output",
        feed_forward.intermediate_dense: "feedforward_intermediate_dense",
        feed_forward.output_dense: "feedforward_output_dense",
    }
    for target, path in copies.items():
        name, *part = path.split("/")
        source = theirs[name]
        if part:
            inner = {x.name: x for x in source._flatten_layers(include_self=False)}
            source = inner[part[0]]
        copy_weights([source], target)
    return theirs["self_attention_layer_norm"], theirs["feedforward_layer_norm"]


def hub_encoder(rng, normalize_first, activation, epsilon):
    """Token and position embedding, two blocks, and where blocks normalize first a last norm."""
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="int32", name="padding_mask")
    embedding = keras_hub.layers.TokenAndPositionEmbedding(
        TINY_ENCODER["vocabulary_size"],
        TINY_ENCODER["max_sequence_length"],
        TINY_ENCODER["hidden_dim"],
    )
    blocks = [
        keras_hub.layers.TransformerEncoder(
            **BLOCK,
            activation=activation,
            layer_norm_epsilon=epsilon,
            normalize_first=normalize_first,
        )
        for _ in range(TINY_ENCODER["num_layers"])
    ]
    x = embedding(token_ids)
    for block in blocks:
        x = block(x, padding_mask=padding_mask)
    last_norm = keras.layers.LayerNormalization(epsilon=epsilon)
    if normalize_first:
        x = last_norm(x)
    model = keras.Model({"token_ids": token_ids, "padding_mask": padding_mask}, x)
    return randomize(model, rng), embedding, blocks, last_norm


def copied(embedding, blocks, last_norm, pre_norm, **kwargs):
    """Our encoder with the weights of KerasHub's layers."""
    ours = TransformerEncoder(
        **TINY_ENCODER,
        residual="pre_norm" if pre_norm else "post_norm",
        position="learned",
        **kwargs,
    )
    table, positions = ours.get_layer("embeddings").weights
    table.assign(embedding.token_embedding.embeddings)
    positions.assign(embedding.position_embedding.position_embeddings)
    norms = []
    for i, block in enumerate(blocks):
        layers = [ours.get_layer(f"layer_{i}_{name}") for name in ("attention", "feed_forward")]
        norms += copy_block(block, *layers)
    names = [f"layer_{i}_{n}_add_norm" for i in (0, 1) for n in ("attention", "feed_forward")]
    if pre_norm:  # A joint holds the norm of the sublayer after it.
        names, norms = ["first_norm", *names], [*norms, last_norm]
    for name, norm in zip(names, norms, strict=True):
        copy_weights([norm], ours.get_layer(name))
    return ours


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize(("activation", "epsilon"), [("relu", 1e-5), ("gelu", 1e-12)])
def test_encoder(rng, pre_norm, activation, epsilon):
    theirs, *parts = hub_encoder(rng, pre_norm, activation, epsilon)
    ours = copied(*parts, pre_norm, activation=activation, epsilon=epsilon)
    assert ours.count_params() == theirs.count_params()
    inputs = encoder_inputs(rng)
    inputs["token_ids"] = rng.integers(1, 11, size=inputs["token_ids"].shape).astype("int32")
    got = to_numpy(ours(inputs)["sequence_output"])
    # At padded positions too: as queries they see the real keys, here and there.
    np.testing.assert_allclose(got, to_numpy(theirs(inputs)), **TOLERANCE)
    unmasked = {**inputs, "padding_mask": np.ones_like(inputs["padding_mask"])}
    assert not np.allclose(to_numpy(ours(unmasked)["sequence_output"]), got, atol=1e-2)


def test_block(rng):
    x = rng.normal(size=(3, 6, 8)).astype("float32")
    theirs = keras_hub.layers.TransformerEncoder(**BLOCK, activation="gelu")
    theirs.build(x.shape)
    randomize(theirs, rng)
    ours = TransformerEncoderLayer(**BLOCK, activation="gelu")
    ours.build(x.shape)
    norms = copy_block(theirs, ours.attention, ours.feed_forward)
    for norm, joint in zip(
        norms, (ours.attention_add_norm, ours.feed_forward_add_norm), strict=True
    ):
        copy_weights([norm], joint)
    padding_mask = encoder_inputs(rng)["padding_mask"]
    attention_mask = np.tril(np.ones((3, 6, 6), "int32"))
    for kwargs in (
        {},
        {"padding_mask": padding_mask},
        {"padding_mask": padding_mask, "attention_mask": attention_mask},
    ):
        np.testing.assert_allclose(
            to_numpy(ours(x, **kwargs)), to_numpy(theirs(x, **kwargs)), **TOLERANCE
        )


def test_only_a_sequence_of_nothing_differs(rng):
    """Where all keys are hidden KerasHub attends to all of them, and ours to none."""
    theirs, *parts = hub_encoder(rng, False, "relu", 1e-5)
    ours = copied(*parts, False)
    inputs = encoder_inputs(rng)
    inputs["padding_mask"][2] = 0
    got, want = to_numpy(ours(inputs)["sequence_output"]), to_numpy(theirs(inputs))
    np.testing.assert_allclose(got[:2], want[:2], **TOLERANCE)
    assert np.isfinite(got).all()
    assert not np.allclose(got[2], want[2], atol=1e-2)
