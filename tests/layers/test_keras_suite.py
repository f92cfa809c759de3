"""Keras's own checks of a layer: serialization, symbolic and eager calls, training, precision.

Its training step passes all inputs as one argument, so it runs on layers of one input; those of
several train in KerasHub's suite next door.
"""

import pytest
from keras.src.testing import TestCase

from keras_addnorm import layers

SEQUENCE = (2, 5, 8)
SEVERAL = {"run_training_check": False}

# Class, constructor arguments, input shapes, output shape, and what else `run_layer_test` checks.
CASES = [
    (
        "AddNorm",
        {"branch_scale": 1.0, "dropout": 0.1, "drop_path": 0.1},
        {"x_shape": SEQUENCE, "y_shape": SEQUENCE},
        SEQUENCE,
        {
            "expected_num_trainable_weights": 3,
            "expected_num_seed_generators": 2,
            "supports_masking": True,
            **SEVERAL,
        },
    ),
    (
        "AddNorm",
        {"norm": "batch_norm", "return_sum": True, "branch_norm": "dynamic_tanh"},
        {"x_shape": SEQUENCE, "y_shape": SEQUENCE},
        (SEQUENCE, SEQUENCE),
        {
            "expected_num_trainable_weights": 5,
            "expected_num_non_trainable_weights": 2,
            **SEVERAL,
        },
    ),
    (
        "Dropout",
        {"rate": 0.1, "noise_shape": (None, 1, 8)},
        SEQUENCE,
        SEQUENCE,
        {"expected_num_seed_generators": 1, "expected_num_non_trainable_variables": 1},
    ),
    ("Affine", {}, SEQUENCE, SEQUENCE, {"expected_num_trainable_weights": 2}),
    ("DynamicTanh", {}, SEQUENCE, SEQUENCE, {"expected_num_trainable_weights": 3}),
    (
        "PowerNormalization",
        {"epsilon": 1e-3},
        SEQUENCE,
        SEQUENCE,
        {
            "expected_num_trainable_weights": 2,
            "expected_num_non_trainable_weights": 1,
            "supports_masking": True,
        },
    ),
    (
        "FeedForward",
        {"intermediate_dim": 16, "activation": "gelu", "dropout": 0.1, "output_dim": 3},
        SEQUENCE,
        (2, 5, 3),
        {
            "expected_num_trainable_weights": 4,
            "expected_num_seed_generators": 1,
            "supports_masking": True,
        },
    ),
    (
        "FeedForward",
        {"intermediate_dim": 16, "activation": "silu", "gated": True, "fused": True},
        (2, 8),
        (2, 8),
        {"expected_num_trainable_weights": 4},
    ),
    (
        "Head",
        {"output_dim": 3, "hidden_dim": 16, "norm": "layer_norm", "dropout": 0.1},
        SEQUENCE,
        (2, 5, 3),
        {"expected_num_trainable_weights": 6},
    ),
    (
        "MultiHeadAttention",
        {"num_heads": 2, "dropout": 0.1},
        SEQUENCE,
        SEQUENCE,
        {
            "expected_num_trainable_weights": 8,
            "expected_num_seed_generators": 1,
            "supports_masking": True,
        },
    ),
    (
        "MultiHeadAttention",
        {
            "num_heads": 4,
            "num_key_value_heads": 2,
            "key_dim": 4,
            "output_dim": 3,
            "rotary": {},
            "qk_norm": "rms_norm",
            "use_gate": True,
            "use_bias": False,
        },
        {"query_shape": SEQUENCE, "value_shape": (2, 4, 6), "key_shape": (2, 4, 7)},
        (2, 5, 3),
        {"expected_num_trainable_weights": 7, **SEVERAL},
    ),
    (
        "Projection",
        {"output_dim": 3, "norm": "layer_norm"},
        SEQUENCE,
        (2, 5, 3),
        {"expected_num_trainable_weights": 4, "supports_masking": True},
    ),
    (
        "RelativeEmbedding",
        {"bucket_size": 4, "max_distance": 8, "max_sequence_length": 6},
        SEQUENCE,
        {"relative_keys": (1, 10, 8), "relative_queries": (1, 10, 8)},
        {"expected_num_trainable_weights": 3, **SEVERAL},
    ),
    ("RotaryEmbedding", {"interleaved": True}, (2, 5, 2, 8), (2, 5, 2, 8), {}),
    ("ALiBi", {"num_heads": 2}, SEQUENCE, (1, 2, 5, 5), {"expected_output_dtype": "float32"}),
    (
        "RelativePositionBias",
        {"num_heads": 2, "num_buckets": 8},
        SEQUENCE,
        (1, 2, 5, 5),
        {"expected_num_trainable_weights": 1, "expected_output_dtype": "float32"},
    ),
    ("SinusoidalPositionEncoding", {}, SEQUENCE, SEQUENCE, {"supports_masking": True}),
    (
        "LearnedPositionEncoding",
        {"max_sequence_length": 6, "position_offset": 2},
        SEQUENCE,
        SEQUENCE,
        {"expected_num_trainable_weights": 1},
    ),
    (
        "PatchEmbedding",
        {"patch_size": [2, 4], "embedding_dim": 8, "num_register_tokens": 3, "dropout": 0.1},
        (2, 4, 8, 3),
        (2, 8, 8),
        {"expected_num_trainable_weights": 5, "expected_num_seed_generators": 1},
    ),
    (
        "SequenceConvolution",
        {"kernel_size": 5, "activation": "gelu", "groups": 2, "dropout": 0.1},
        SEQUENCE,
        SEQUENCE,
        {
            "expected_num_trainable_weights": 2,
            "expected_num_seed_generators": 1,
            "supports_masking": True,
        },
    ),
    (
        "SequencePooling",
        {"pooling": "max", "normalize": True},
        {"x_shape": SEQUENCE, "padding_mask_shape": (2, 5)},
        (2, 8),
        {"input_dtype": {"x_shape": "float32", "padding_mask_shape": "int32"}, **SEVERAL},
    ),
    (
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 10,
            "max_sequence_length": 5,
            "embedding_dim": 8,
            "embedding_norm": True,
            "token_embedding_dim": 4,
            "mask_zero": True,
        },
        (2, 5),
        SEQUENCE,
        {
            "input_dtype": "int32",
            "expected_num_trainable_weights": 6,
            "supports_masking": True,
            "expected_mask_shape": (2, 5),
        },
    ),
    (
        "TokenAndPositionEmbedding",
        {
            "vocabulary_size": 10,
            "max_sequence_length": 5,
            "embedding_dim": 8,
            "num_segments": 10,
            "position": "sinusoidal",
        },
        {"token_ids_shape": (2, 5), "segment_ids_shape": (2, 5)},
        SEQUENCE,
        {
            "input_dtype": {"token_ids_shape": "int32", "segment_ids_shape": "int32"},
            "expected_num_trainable_weights": 2,
            **SEVERAL,
        },
    ),
    (
        "TransformerEncoderLayer",
        {"intermediate_dim": 16, "num_heads": 2, "dropout": 0.1},
        SEQUENCE,
        SEQUENCE,
        {
            "expected_num_trainable_weights": 16,
            "expected_num_seed_generators": 3,
            "supports_masking": True,
        },
    ),
    (
        "TransformerEncoderLayer",
        {"intermediate_dim": 16, "num_heads": 2, "norm": "power_norm"},
        SEQUENCE,
        SEQUENCE,
        {"expected_num_trainable_weights": 16, "expected_num_non_trainable_weights": 2},
    ),
]

# A model without weights is trained all the same: nothing changes, and Keras says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The model does not have any trainable weights"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),  # Keras's own training step
]


class Suite(TestCase):
    __test__ = False  # a home for `run_layer_test`; the tests are below
    test_session = None  # TensorFlow's context manager, which looks like a test

    def runTest(self):
        raise NotImplementedError


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_layer(case):
    name, init_kwargs, input_shape, output_shape, checks = case
    suite = Suite()
    suite.setUp()
    suite.run_layer_test(
        getattr(layers, name),
        init_kwargs=init_kwargs,
        input_shape=input_shape,
        expected_output_shape=output_shape,
        **{"expected_num_losses": 0, **checks},
    )


def test_every_public_layer_has_a_row():
    assert {case[0] for case in CASES} == set(layers.__all__)
