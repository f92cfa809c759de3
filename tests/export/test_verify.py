"""Comparing outputs, and comparing files with models."""

import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.export.recipes import RECIPES
from keras_addnorm.export.samples import id_limits, make_samples
from keras_addnorm.export.signature import TensorSpec
from keras_addnorm.export.verify import compare, verify
from tests.export import common


def test_compare_reports_the_worst_error_and_cosine():
    reference = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    actual = np.array([[1.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    difference = compare(reference, actual)
    assert difference.max_abs_error == 2.0 and difference.max_abs_value == 2.0
    assert difference.min_cosine == pytest.approx(0.5**0.5)
    assert difference.mean_cosine == pytest.approx((2 + 0.5**0.5) / 3)
    assert difference.vectors == 3


def test_compare_leaves_out_padded_positions_only():
    reference, mask = np.ones((2, 3, 4)), np.array([[1, 1, 0], [1, 0, 0]])
    actual = reference.copy()
    actual[0, 2] = actual[1, 1:] = 7.0
    assert compare(reference, actual, mask).max_abs_error == 0.0
    actual[1, 0, 3] = 1.5
    assert compare(reference, actual, mask).max_abs_error == 0.5


def test_a_zero_where_the_reference_has_a_direction_has_no_cosine_of_1():
    assert compare(np.ones((1, 3)), np.zeros((1, 3))).min_cosine < 0.01


def test_compare_refuses_nan_and_other_shapes():
    with pytest.raises(export.VerificationError, match="NaN or infinity"):
        compare(np.ones((1, 2)), np.array([[1.0, np.nan]]))
    with pytest.raises(export.VerificationError, match=r"shape \(1, 3\).*has \(1, 2\)"):
        compare(np.ones((1, 2)), np.ones((1, 3)))


@pytest.mark.parametrize("error, cosine", [(2e-4, 1.0), (0.0, 0.9)])
def test_verify_holds_outputs_against_the_tolerance(error, cosine):
    reference = np.array([[1.0, 0.0]])
    turned = np.array([[cosine, (1 - cosine**2) ** 0.5]]) + error
    with pytest.raises(export.VerificationError, match="within the tolerance of float32: y: "):
        verify(lambda s: {"y": reference}, lambda s: {"y": turned}, [{}], RECIPES["float32"])


def test_verify_compares_the_names_of_outputs():
    with pytest.raises(export.VerificationError, match=r"returns \['z'\], not \['y'\]"):
        verify(lambda s: {"y": 1}, lambda s: {"z": 1}, [{}], RECIPES["float32"])


def test_samples_have_ids_in_range_and_padded_rows():
    model = common.encoder(num_segments=3)
    specs = [
        TensorSpec(n, (1, None), "int32") for n in ("token_ids", "padding_mask", "segment_ids")
    ]
    assert id_limits(model) == {"token_ids": 100, "segment_ids": 3}
    for length, sample in zip((8, 20), make_samples(model, specs, (8, 20)), strict=True):
        assert {value.shape for value in sample.values()} == {(12, length)}
        assert sample["token_ids"].max() < 100 and sample["token_ids"].max() > 50
        assert set(np.unique(sample["segment_ids"])) == {0, 1, 2}
        real = sample["padding_mask"].sum(axis=1)
        assert real[0] == length and real.min() >= 1 and (real < length).any()


def test_samples_of_a_model_with_a_tokenizer_are_sentences():
    model = common.embedder()
    specs = [TensorSpec(n, (1, 16), "int32") for n in ("token_ids", "padding_mask", "segment_ids")]
    (sample,) = make_samples(model, specs, (16,))
    tokenizer = model.preprocessor.tokenizer
    starts = sample["token_ids"][-10:, 0]
    assert (starts == tokenizer.token_to_id("[CLS]")).all()
    assert (sample["padding_mask"][-10:].sum(axis=1) < 16).any()


def test_verify_file(tmp_path):
    model, other = common.embedder(), common.embedder(position="learned")
    for name, arguments in {
        "float32": {},
        "dynamic_int8": {"quantization": "dynamic_int8"},
    }.items():
        path = tmp_path / f"{name}.tflite"
        export.to_tflite(model, path, sequence_length=16, **arguments)
        recipe, differences = export.verify_file(model, path)
        assert recipe.name == name and differences["embedding"].vectors == 12
        with pytest.raises(export.VerificationError, match="not the same model"):
            export.verify_file(other, path)
    with pytest.raises(export.ExportError, match="they are different models"):
        export.verify_file(common.encoder(), path)


def test_verify_file_of_a_saved_model(tmp_path):
    model = common.encoder()
    export.to_saved_model(model, tmp_path / "m")
    recipe, differences = export.verify_file(model, tmp_path / "m")
    assert recipe.name == "float32" and differences["sequence_output"].max_abs_error < 1e-4
    with pytest.raises(export.ExportError, match="a .tflite file or a SavedModel directory"):
        export.verify_file(model, tmp_path)


def test_a_reference_that_is_not_finite_proves_nothing():
    for value in (np.nan, np.inf):
        with pytest.raises(export.VerificationError, match="of the Keras model holds NaN"):
            compare(np.array([[value, 1.0]]), np.ones((1, 2)))


def test_one_large_vector_does_not_loosen_the_others():
    reference = np.array([[1e4, 0.0], [1.0, 0.0]])
    actual = np.array([[1e4, 0.0], [1.9, 0.0]])
    with pytest.raises(export.VerificationError, match="max abs error 9.00e-01"):
        verify(lambda s: {"y": reference}, lambda s: {"y": actual}, [{}], RECIPES["float32"])


def test_int8_must_keep_magnitudes_too():
    reference, actual = np.array([[0.1]]), np.array([[0.9]])
    with pytest.raises(export.VerificationError, match="dynamic_int8"):
        verify(lambda s: {"y": reference}, lambda s: {"y": actual}, [{}], RECIPES["dynamic_int8"])


def test_id_limits_follow_nested_models_casts_and_shared_embeddings():
    import keras

    inner_ids = keras.Input((None,), dtype="int32", name="inner")
    inner = keras.Model(inner_ids, keras.layers.Embedding(70, 8)(inner_ids))
    a = keras.Input((None,), dtype="int32", name="a")
    b = keras.Input((None,), dtype="int64", name="b")
    shared = keras.layers.Embedding(30, 8)
    x = inner(a) + shared(keras.ops.cast(b, "int32")) + shared(b)
    assert id_limits(keras.Model([a, b], x)) == {"a": 70, "b": 30}
