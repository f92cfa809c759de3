"""KerasHub's own checks of a backbone: serialization, lengths, precision, int8, saving."""

import numpy as np
import pytest
from keras import ops

from keras_addnorm.models import ImageEncoder, TransformerEncoder
from tests.common import TINY_ENCODER, TINY_IMAGE_ENCODER, encoder_inputs

pytest.importorskip("grain", reason="KerasHub's test case imports grain")

from keras_hub.src.tests import test_case  # noqa: E402

POST_NORM = {**TINY_ENCODER, "num_segments": 2, "pooler": "tanh", "embedding_norm": True}
MODERN = {
    **TINY_ENCODER,
    "residual": "layer_scale",
    "position": "rotary",
    "attention_options": [{}, {"sliding_window": 2, "num_key_value_heads": 1}],
    "feed_forward_options": {"gated": True},
}
SHARED = {
    **TINY_ENCODER,
    "residual": "deep_norm",
    "position": "relative",
    "share_layers": True,
    "embedding_options": {"token_embedding_dim": 4},
}
PRE_NORM = {**TINY_ENCODER, "residual": "pre_norm", "position": "learned", "activation": "gelu"}


def inputs(segments):
    arrays = encoder_inputs(np.random.default_rng(0), batch=2, segments=segments)
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


class TransformerEncoderTest(test_case.TestCase):
    test_session = None  # TensorFlow's context manager, which looks like a test

    def test_post_norm_backbone(self):
        self.run_backbone_test(
            cls=TransformerEncoder,
            init_kwargs=POST_NORM,
            input_data=inputs(segments=True),
            expected_output_shape={"sequence_output": (2, 6, 8), "pooled_output": (2, 8)},
        )

    def test_pre_norm_backbone(self):
        self.run_backbone_test(
            cls=TransformerEncoder,
            init_kwargs=PRE_NORM,
            input_data=inputs(segments=False),
            expected_output_shape={"sequence_output": (2, 6, 8)},
        )

    def test_post_norm_saving(self):
        self.run_model_saving_test(
            cls=TransformerEncoder, init_kwargs=POST_NORM, input_data=inputs(segments=True)
        )

    def test_pre_norm_saving(self):
        self.run_model_saving_test(
            cls=TransformerEncoder, init_kwargs=PRE_NORM, input_data=inputs(segments=False)
        )

    def test_modern_backbone(self):
        self.run_backbone_test(
            cls=TransformerEncoder,
            init_kwargs=MODERN,
            input_data=inputs(segments=False),
            expected_output_shape={"sequence_output": (2, 6, 8)},
        )

    def test_shared_backbone(self):
        self.run_backbone_test(
            cls=TransformerEncoder,
            init_kwargs=SHARED,
            input_data=inputs(segments=False),
            expected_output_shape={"sequence_output": (2, 6, 8)},
        )

    def test_modern_saving(self):
        self.run_model_saving_test(
            cls=TransformerEncoder, init_kwargs=MODERN, input_data=inputs(segments=False)
        )

    def test_image_saving(self):
        images = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype("float32")
        self.run_model_saving_test(
            cls=ImageEncoder,
            init_kwargs=TINY_IMAGE_ENCODER,
            input_data={"images": ops.convert_to_tensor(images)},
        )
