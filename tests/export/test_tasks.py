"""Every task as a verified file, with the inputs of its own."""

import pytest

from keras_addnorm import export
from keras_addnorm.models import MaskedLMPreprocessor
from tests.common import word_piece
from tests.models import tasks

# Gathering the masked positions is an op that the delegate does not take.
PARTITIONS = dict.fromkeys(("masked", "untied", "wider"), 2)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_tflite(rng, name, tmp_path):
    model, _ = tasks.make(name, rng)
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=6)
    assert report.xnnpack_partitions == PARTITIONS.get(name, 1)
    names = {"start_logits", "end_logits"} if name == "answer" else {tasks.output_name(name)}
    assert set(report.verification) == names
    assert {spec.name for spec in report.inputs} == set(model.input)
    for difference in report.verification.values():
        # Some ten float32 products in another order, on values of a few units.
        assert difference.max_abs_error <= 1e-5 * max(1.0, difference.max_abs_value)


@pytest.mark.parametrize("name", ["several", "answer", "wider"])
def test_saved_model(rng, name, tmp_path):
    model, _ = tasks.make(name, rng)
    report = export.to_saved_model(model, tmp_path / "m")
    assert all(d.max_scaled_error <= 1e-5 for d in report.verification.values())


@pytest.mark.parametrize("name", ["embedder", "token", "answer"])
def test_any_length(rng, name, tmp_path):
    model, _ = tasks.make(name, rng)
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=None)
    assert all(d.max_scaled_error <= 1e-5 for d in report.verification.values())


def test_half_precision_and_the_dtype_of_a_head(rng, tmp_path):
    model, _ = tasks.make("text", rng, dtype="bfloat16", head_dtype="mixed_float16")
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=6)
    assert report.xnnpack_partitions == 1


def test_dynamic_int8(rng, tmp_path):
    model, _ = tasks.make("image", rng, head_options={"hidden_dim": 64, "activation": "gelu"})
    report = export.to_tflite(model, tmp_path / "m.tflite", quantization="dynamic_int8")
    assert report.weight_types["INT8"] >= 24 * 64  # the hidden layer of the head


def test_a_masking_preprocessor_does_not_fill_in_the_samples(rng, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]
    model, _ = tasks.make("masked", rng)
    model.preprocessor = MaskedLMPreprocessor(word_piece(words), 8, mask_selection_length=2)
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=6)
    assert set(report.verification) == {"logits"}
