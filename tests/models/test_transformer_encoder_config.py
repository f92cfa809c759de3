"""TransformerEncoder: plain-data config, argument errors."""

import inspect
import json

import keras
import numpy as np
import pytest

from keras_addnorm.models import TransformerEncoder
from tests.common import TINY_ENCODER

OTHER = {
    "dropout": 0.2,
    "attention_dropout": 0.05,
    "activation": "gelu_tanh",
    "residual": "pre_norm",
    "norm": "rms_norm",
    "epsilon": 1e-6,
    "position": "learned",
    "num_segments": 3,
    "embedding_norm": True,
    "pooler": "tanh",
    "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.02),
    "drop_path": 0.1,
    "position_options": {},
    "attention_options": [{"sliding_window": 2, "use_bias": ["query"]}, {"qk_norm": "rms_norm"}],
    "feed_forward_options": {"gated": True},
    "embedding_options": {"position_offset": 1, "token_embedding_dim": 4},
    "block_options": {"num_feed_forwards": 2, "bottleneck_dim": 4, "first_norm": False},
    "name": "mine",
    "trainable": False,
    "dtype": "mixed_bfloat16",
}


@pytest.mark.parametrize("kwargs", [{}, OTHER])
def test_config_round_trip_through_json(kwargs):
    encoder = TransformerEncoder(**TINY_ENCODER, **kwargs)
    config = encoder.get_config()
    revived = TransformerEncoder.from_config(json.loads(json.dumps(config)))
    assert revived.get_config() == config
    assert set(inspect.signature(TransformerEncoder).parameters) - {"kwargs"} <= set(config)
    assert [(w.path, w.shape, w.dtype) for w in revived.weights] == [
        (w.path, w.shape, w.dtype) for w in encoder.weights
    ]
    for name, value in {**TINY_ENCODER, **kwargs}.items():
        if name not in ("kernel_initializer", "dtype"):
            assert config[name] == value
    assert revived.dtype_policy == encoder.dtype_policy
    assert len(revived.trainable_weights) == len(encoder.trainable_weights)


def test_config_of_numpy_numbers_is_plain_data():
    encoder = TransformerEncoder(
        **{name: np.int64(value) for name, value in TINY_ENCODER.items()},
        num_segments=np.int32(2),
        dropout=np.float32(0.25),
        epsilon=np.float64(1e-6),
    )
    config = json.loads(json.dumps(encoder.get_config()))
    assert {name: config[name] for name in TINY_ENCODER} == TINY_ENCODER
    assert (config["num_segments"], config["dropout"], config["epsilon"]) == (2, 0.25, 1e-6)


def test_is_registered_under_the_package():
    name = keras.saving.get_registered_name(TransformerEncoder)
    assert name == "keras_addnorm>TransformerEncoder"
    assert keras.saving.get_registered_object(name) is TransformerEncoder


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size", "Pass a positive int"),
        ({"vocabulary_size": 2**24 + 1}, "vocabulary_size", "from 1 to 16777216"),
        ({"num_layers": 0}, "num_layers", "Pass a positive int"),
        ({"num_layers": 1001}, "num_layers", "from 1 to 1000"),
        ({"num_layers": True}, "num_layers", "Pass a positive int"),
        ({"num_heads": -1}, "num_heads", "Pass a positive int"),
        ({"num_heads": 3}, "num_heads", "Pass a num_heads that divides 8"),
        ({"hidden_dim": 8.0}, "hidden_dim", "Pass a positive int"),
        ({"hidden_dim": 9}, "hidden_dim", "Pass a num_heads that divides 9"),
        ({"intermediate_dim": None}, "intermediate_dim", "Pass a positive int"),
        ({"max_sequence_length": "10"}, "max_sequence_length", "Pass a positive int"),
        ({"num_segments": -1}, "num_segments", "a whole number from 0"),
        ({"num_segments": "two"}, "num_segments", "Pass"),
        ({"dropout": 1.0}, "dropout", "Pass for instance 0.1"),
        ({"dropout": 1.5}, "dropout", "Pass for instance 0.1"),
        ({"dropout": float("nan")}, "dropout", "finite"),
        ({"dropout": "a"}, "dropout", "Pass a float"),
        ({"attention_dropout": 1.5}, "attention_dropout", "Pass for instance 0.1"),
        ({"epsilon": 0.0}, "epsilon", "Pass a small float such as 1e-5"),
        ({"epsilon": float("inf")}, "epsilon", "finite"),
        ({"norm": "batch"}, "norm", "'affine', 'none'"),
        ({"norm": keras.layers.LayerNormalization()}, "norm", "'affine', 'none'"),
        ({"residual": "sandwich"}, "residual", "'post_norm', 'pre_norm'"),
        ({"residual": None}, "residual", "'post_norm', 'pre_norm'"),
        ({"position": "rotatory"}, "position", "'sinusoidal', 'learned', 'none', 'rotary'"),
        ({"drop_path": 1.0}, "drop_path", "Pass for instance 0.1"),
        ({"share_layers": True, "drop_path": 0.1}, "share_layers", "Pass drop_path=0.0"),
        (
            {"share_layers": True, "attention_options": [{}, {"sliding_window": 2}]},
            "share_layers",
            "one dict",
        ),
        ({"attention_options": {"num_heads": 2}}, "attention_options", "Pass some of key_dim"),
        ({"attention_options": {"keydim": 2}}, "attention_options", "Pass some of key_dim"),
        ({"attention_options": [{}, 3]}, "attention_options[1]", "a dict of arguments of"),
        ({"attention_options": "rotary"}, "attention_options", "a dict of arguments of"),
        (
            {"attention_options": {"qk_norm": keras.layers.LayerNormalization()}},
            "attention_options",
            "must be plain data",
        ),
        ({"attention_options": {"key_dim": float("nan")}}, "attention_options", "plain data"),
        ({"feed_forward_options": {"activation": "relu"}}, "feed_forward_options", "gated"),
        ({"embedding_options": {"mask_zero": True}}, "embedding_options", "position_offset"),
        ({"embedding_options": {"position": "learned"}}, "embedding_options", "position_offset"),
        (
            {"position": "alibi", "embedding_options": {"position": "rotary"}},
            "position",
            "'sinusoidal', 'learned', 'none'",
        ),
        ({"position_options": {"max_wavelength": 9.0}}, "position_options", "Leave out"),
        (
            {"position": "rotary", "position_options": {"num_buckets": 8}},
            "position_options",
            "Pass some of max_wavelength",
        ),
        ({"block_options": {"num_ffn": 2}}, "block_options", "Pass some of first_norm, num_feed"),
        ({"block_options": {"first_norm": 0}}, "first_norm", "Pass a bool"),
        ({"block_options": {"first_norm": False}}, "first_norm", "residual='pre_norm'"),
        ({"block_options": {"num_feed_forwards": 0}}, "num_feed_forwards", "from 1 to 100"),
        ({"block_options": {"num_feed_forwards": 101}}, "num_feed_forwards", "from 1 to 100"),
        ({"block_options": {"bottleneck_dim": 0}}, "bottleneck_dim", "Pass a positive int"),
        ({"block_options": {"bottleneck_dim": 2**24 + 1}}, "bottleneck_dim", "to 16777216"),
        ({"block_options": {"bottleneck_dim": 5}}, "bottleneck_dim", "that divides 5"),
        (
            {"block_options": {"bottleneck_dim": 4, "attention_bottleneck": "value"}},
            "attention_bottleneck",
            "'query_key', 'all', 'none'",
        ),
        (
            {"block_options": {"convolution": {"size": 3}}},
            "convolution",
            "Pass some of kernel_size, activation, groups",
        ),
        ({"block_options": {"convolution": {"kernel_size": 2}}}, "kernel_size", "must be odd"),
        (
            {"residual": "pre_norm", "block_options": {"convolution": {}}},
            "convolution",
            "Pass residual='post_norm'",
        ),
        ({"activation": "rellu"}, "activation", "'gelu_tanh'"),
        ({"activation": None}, "activation", "Pass for instance 'gelu'"),
        ({"activation": keras.activations.gelu}, "activation", "Pass for instance 'gelu'"),
        ({"pooler": "tanhh"}, "pooler", "'gelu_tanh'"),
        ({"pooler": True}, "pooler", "Pass for instance 'gelu'"),
        ({"num_layer": 2}, "num_layer", "Did you mean `num_layers`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError) as error:
        TransformerEncoder(**{**TINY_ENCODER, **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)
