"""KerasHub's own checks of backbones and tasks: serialization, precision, int8, saving, fit."""

import functools

import numpy as np
import pytest
from keras import ops

from keras_addnorm.models import (
    ImageClassifier,
    ImageClassifierPreprocessor,
    ImageConverter,
    ImageEncoder,
    MaskedLM,
    MaskedLMPreprocessor,
    QuestionAnswering,
    QuestionAnsweringPreprocessor,
    TextClassifier,
    TextClassifierPreprocessor,
    TokenClassifier,
    TokenClassifierPreprocessor,
    TransformerEncoder,
)
from tests.common import TINY_ENCODER, TINY_IMAGE_ENCODER, encoder_inputs, word_piece

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


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]
TEXTS = ["a cat sat", "the dogs sat"]
TASK_ENCODER = {**TINY_ENCODER, "num_layers": 1, "num_segments": 2}


def task_arguments(preprocessor_cls, **kwargs):
    return {
        "backbone": TransformerEncoder(**TASK_ENCODER),
        "preprocessor": preprocessor_cls(word_piece(WORDS), sequence_length=6),
        **kwargs,
    }


EAGERLY = {"run_eagerly": True}  # compiling takes longer than the tests


class TasksTest(test_case.TestCase):
    test_session = None  # TensorFlow's context manager, which looks like a test

    def test_text_classifier(self):
        self.run_task_test(
            cls=TextClassifier,
            init_kwargs=task_arguments(
                TextClassifierPreprocessor, num_classes=3, labels=["a", "b", "c"]
            ),
            train_data=(TEXTS, [0, 2]),
            expected_output_shape=(2, 3),
            compile_kwargs=EAGERLY,
        )

    def test_token_classifier(self):
        self.run_task_test(
            cls=TokenClassifier,
            init_kwargs=task_arguments(
                TokenClassifierPreprocessor, num_classes=3, activation="softmax"
            ),
            train_data=([text.split() for text in TEXTS], [[0, 1, 2], [2, 1, 0]]),
            expected_output_shape=(2, 6, 3),
            compile_kwargs=EAGERLY,
        )

    def test_question_answering(self):
        self.run_task_test(
            cls=QuestionAnswering,
            init_kwargs=task_arguments(QuestionAnsweringPreprocessor),
            train_data=((["cat", "dog"], TEXTS), ([2, 4], [5, 7])),
            expected_output_shape={"start_logits": (2, 6), "end_logits": (2, 6)},
            compile_kwargs=EAGERLY,
        )

    def test_masked_lm(self):
        preprocessor = functools.partial(
            MaskedLMPreprocessor,  # masks all words: the suite compares calls
            mask_selection_length=4,
            mask_selection_rate=1.0,
            mask_token_rate=1.0,
            random_token_rate=0.0,
        )
        self.run_task_test(
            cls=MaskedLM,
            init_kwargs=task_arguments(preprocessor),
            train_data=(TEXTS,),
            expected_output_shape=(2, 4, 11),
            compile_kwargs=EAGERLY,
        )

    def test_image_classifier(self):
        self.run_task_test(
            cls=ImageClassifier,
            init_kwargs={
                "backbone": ImageEncoder(**{**TINY_IMAGE_ENCODER, "num_layers": 1}),
                "num_classes": 3,
                "preprocessor": ImageClassifierPreprocessor(ImageConverter((8, 12))),
            },
            train_data=(np.zeros((2, 9, 13, 3), "uint8"), [0, 2]),
            expected_output_shape=(2, 3),
            compile_kwargs=EAGERLY,
        )
