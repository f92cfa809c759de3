"""KerasHub's own checks of a layer: serialization, building, training with XLA, precision."""

import numpy as np
import pytest
from keras import ops

from keras_addnorm import layers

pytest.importorskip("grain", reason="KerasHub's test case imports grain")

from keras_hub.src.tests import test_case  # noqa: E402

# Backend tensors: Keras's `compute_output_spec`, which the suite calls, takes no numpy arrays.
X = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 5, 8)), "float32")
IDS = ops.reshape(ops.arange(10, dtype="int32"), (2, 5))
MASK = ops.convert_to_tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "int32")


class LayersTest(test_case.TestCase):
    test_session = None  # TensorFlow's context manager, which looks like a test

    def test_add_norm(self):
        self.run_layer_test(
            cls=layers.AddNorm,
            init_kwargs={"branch_scale": 1.0, "dropout": 0.1},
            input_data={"x": X, "y": ops.flip(X, 0)},
            expected_output_shape=(2, 5, 8),
            expected_num_trainable_weights=3,
            expected_num_non_trainable_variables=1,
        )

    def test_add_norm_with_the_sum(self):
        self.run_layer_test(
            cls=layers.AddNorm,
            init_kwargs={"norm": "rms_norm", "return_sum": True},
            input_data={"x": X, "y": ops.flip(X, 0)},
            expected_output_shape=((2, 5, 8), (2, 5, 8)),
            expected_num_trainable_weights=1,
            run_training_check=False,  # its loop compares one output
        )

    def test_feed_forward(self):
        self.run_layer_test(
            cls=layers.FeedForward,
            init_kwargs={"intermediate_dim": 16, "activation": "gelu", "dropout": 0.1},
            input_data=X,
            expected_output_shape=(2, 5, 8),
            expected_num_trainable_weights=4,
            expected_num_non_trainable_variables=1,
        )

    def test_gated_feed_forward(self):
        self.run_layer_test(
            cls=layers.FeedForward,
            init_kwargs={"intermediate_dim": 16, "activation": "silu", "gated": True},
            input_data=X,
            expected_output_shape=(2, 5, 8),
            expected_num_trainable_weights=6,
            expected_num_non_trainable_variables=0,
        )

    def test_patch_embedding(self):
        self.run_layer_test(
            cls=layers.PatchEmbedding,
            init_kwargs={"patch_size": 2, "embedding_dim": 8, "num_register_tokens": 3},
            input_data=ops.reshape(X[:, :4], (2, 4, 4, 2)),
            expected_output_shape=(2, 8, 8),
            expected_num_trainable_weights=5,
        )

    def test_multi_head_attention(self):
        self.run_layer_test(
            cls=layers.MultiHeadAttention,
            init_kwargs={"num_heads": 2, "output_dim": 3, "dropout": 0.1},
            input_data={"query": X, "value": X[:, :4]},
            expected_output_shape=(2, 5, 3),
            expected_num_trainable_weights=8,
            expected_num_non_trainable_variables=1,
        )

    def test_sinusoidal_position_encoding(self):
        self.run_layer_test(
            cls=layers.SinusoidalPositionEncoding,
            init_kwargs={"max_wavelength": 100.0},
            input_data=X,
            expected_output_shape=(2, 5, 8),
        )

    def test_learned_position_encoding(self):
        self.run_layer_test(
            cls=layers.LearnedPositionEncoding,
            init_kwargs={"max_sequence_length": 5},
            input_data=X,
            expected_output_shape=(2, 5, 8),
            expected_num_trainable_weights=1,
        )

    def test_token_and_position_embedding(self):
        self.run_layer_test(
            cls=layers.TokenAndPositionEmbedding,
            init_kwargs={
                "vocabulary_size": 10,
                "max_sequence_length": 5,
                "embedding_dim": 8,
                "num_segments": 2,
                "embedding_norm": True,
            },
            input_data={"token_ids": IDS, "segment_ids": MASK},
            expected_output_shape=(2, 5, 8),
            expected_num_trainable_weights=5,
        )

    def test_token_and_position_embedding_of_albert(self):
        self.run_layer_test(
            cls=layers.TokenAndPositionEmbedding,
            init_kwargs={
                "vocabulary_size": 10,
                "max_sequence_length": 5,
                "embedding_dim": 8,
                "embedding_norm": True,
                "position_offset": 2,
                "token_embedding_dim": 4,
                "embedding_scale": "sqrt",
                "dropout": 0.1,
            },
            input_data=IDS,
            expected_output_shape=(2, 5, 8),
            expected_num_trainable_weights=6,
            expected_num_non_trainable_variables=1,
        )

    def test_transformer_encoder_layer(self):
        self.run_layer_test(
            cls=layers.TransformerEncoderLayer,
            init_kwargs={"intermediate_dim": 16, "num_heads": 2, "dropout": 0.1},
            input_data=X,
            expected_output_shape=(2, 5, 8),
            expected_num_trainable_weights=16,
            expected_num_non_trainable_variables=3,
        )

    def test_sequence_pooling(self):
        self.run_layer_test(
            cls=layers.SequencePooling,
            init_kwargs={"pooling": "max", "normalize": True},
            input_data={"x": X, "padding_mask": MASK},
            expected_output_shape=(2, 8),
            run_training_check=False,  # it has no weights, so there is nothing to train
        )
