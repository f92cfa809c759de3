"""What an export can be asked for: lengths, inputs left out, samples to calibrate with."""

import keras
import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.export import samples as samples_module
from keras_addnorm.export.runtime import LiteRTModel
from keras_addnorm.export.samples import SENTENCES, calibration_samples, tokenize
from keras_addnorm.export.signature import TensorSpec
from keras_addnorm.layers.masking import MASKED, penalty
from tests.common import to_numpy
from tests.export import common

# Two encoder layers in float32, in another order: a few units in the last place of unit vectors.
CLOSE = {"atol": 2e-6, "rtol": 0}


def embed(model, inputs):
    return to_numpy(model({k: np.asarray(v) for k, v in inputs.items()}))


@pytest.fixture(scope="module")
def embedder():
    return common.embedder()


@pytest.mark.parametrize("length", [1, 3, 17, 32])
def test_a_file_takes_any_length_by_default(embedder, tmp_path, length):
    path = tmp_path / "m.tflite"
    report = export.to_tflite(embedder, path)
    assert {spec.shape for spec in report.inputs} == {(1, None)}
    assert report.xnnpack_partitions == 1
    inputs = tokenize(embedder.preprocessor, SENTENCES[:1], length if length > 2 else 3)
    inputs = {name: value[:, :length] for name, value in inputs.items()}
    np.testing.assert_allclose(
        LiteRTModel(path)(inputs)["embedding"], embed(embedder, inputs), **CLOSE
    )


def test_there_are_no_selects_and_no_numbers_beyond_half_precision(embedder, tmp_path):
    path = tmp_path / "m.tflite"
    report = export.to_tflite(embedder, path)
    assert (
        not {"SELECT", "SELECT_V2", "LESS", "GATHER_ND", "BROADCAST_TO"} & report.operators.keys()
    )
    findings = export.lint_file(path)
    assert not [f for f in findings if f.severity == "error"]
    assert "fp16-overflow" not in {f.rule for f in findings}
    # The layers themselves mask as before.
    assert float(penalty(keras.ops.zeros((1,)))[0]) == pytest.approx(MASKED)


class TestDropInputs:
    def test_the_rest_is_the_same_model(self, embedder, tmp_path):
        path = tmp_path / "m.tflite"
        report = export.to_tflite(embedder, path, drop_inputs=("padding_mask", "segment_ids"))
        assert [spec.name for spec in report.inputs] == ["token_ids"]
        whole = export.to_tflite(embedder, tmp_path / "whole.tflite")
        assert sum(report.operators.values()) < sum(whole.operators.values())
        ids = np.array([[2, 5, 9, 4, 3]], "int32")
        inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": 0 * ids}
        actual = LiteRTModel(path)({"token_ids": ids})["embedding"]
        np.testing.assert_allclose(actual, embed(embedder, inputs), **CLOSE)
        recipe, differences = export.verify_file(embedder, path)
        assert recipe.name == "float32" and differences["embedding"].max_abs_error < 2e-6

    def test_texts_are_embedded_at_their_own_length(self, embedder, tmp_path):
        from keras_addnorm.export.embed import embed_texts

        path = tmp_path / "m.tflite"
        export.to_tflite(embedder, path, drop_inputs="padding_mask")
        vectors, cut = embed_texts(path, list(SENTENCES[:3]))
        inputs = tokenize(embedder.preprocessor, SENTENCES[:3], 32)
        np.testing.assert_allclose(vectors, embed(embedder, inputs), **CLOSE)
        assert cut == []

    def test_a_fixed_length_without_a_mask_embeds_no_texts(self, embedder, tmp_path):
        from keras_addnorm.export.embed import embed_texts

        path = tmp_path / "m.tflite"
        export.to_tflite(embedder, path, drop_inputs="padding_mask", sequence_length=8)
        with pytest.raises(export.ExportError, match="8 tokens without a padding mask"):
            embed_texts(path, ["Thanks!"])

    def test_other_inputs_stay(self, embedder, tmp_path):
        with pytest.raises(ValueError, match="same everywhere.*'token_ids'"):
            export.to_tflite(embedder, tmp_path / "m.tflite", drop_inputs=["token_ids"])
        with pytest.raises(ValueError, match="inputs none can be left out"):
            export.to_tflite(common.own_model(), tmp_path / "m.tflite", drop_inputs="padding_mask")
        assert not list(tmp_path.iterdir())


class TestLengths:
    @pytest.mark.parametrize("quantization", [None, "dynamic_int8"])
    def test_each_has_a_signature_and_all_share_the_weights(self, embedder, tmp_path, quantization):
        path, single = tmp_path / "m.tflite", tmp_path / "single.tflite"
        export.to_tflite(embedder, path, lengths=[24, 8, 16], quantization=quantization)
        one = export.to_tflite(embedder, single, quantization=quantization)
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path))
        assert sorted(interpreter.get_signature_list()) == ["length_16", "length_24", "length_8"]
        for length in (8, 16, 24):
            details = interpreter.get_signature_runner(f"length_{length}").get_input_details()
            assert {tuple(d["shape_signature"]) for d in details.values()} == {(1, length)}
            inputs = tokenize(embedder.preprocessor, SENTENCES[:2], length)
            np.testing.assert_allclose(
                LiteRTModel(path)(inputs)["embedding"],
                LiteRTModel(single)(inputs)["embedding"],
                **CLOSE,
            )
        graph_bytes = one.bytes - sum(one.weight_types.values())
        assert path.stat().st_size < one.bytes + 3 * graph_bytes

    def test_another_length_is_refused_by_name(self, embedder, tmp_path):
        path = tmp_path / "m.tflite"
        export.to_tflite(embedder, path, lengths=(8, 16))
        with pytest.raises(export.ExportError, match=r"lengths \[8, 16\].*of length 12"):
            LiteRTModel(path)(tokenize(embedder.preprocessor, SENTENCES[:1], 12))

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"lengths": ()}, "different positive ints"),
            ({"lengths": (8, 8)}, "different positive ints"),
            ({"lengths": (8, 0)}, "different positive ints"),
            ({"lengths": (8, True)}, "different positive ints"),
            ({"lengths": (8, 33)}, "at most 32"),
            ({"lengths": (8,), "sequence_length": 8}, "Leave out the other two"),
            ({"lengths": (8,), "batch_size": None}, "Leave out the other two"),
        ],
    )
    def test_what_cannot_be_is_refused(self, embedder, tmp_path, arguments, message):
        with pytest.raises(ValueError, match=message):
            export.to_tflite(embedder, tmp_path / "m.tflite", **arguments)
        assert not list(tmp_path.iterdir())


class TestCalibration:
    SPECS = tuple(
        TensorSpec(name, (1, None), "int32")
        for name in ("token_ids", "padding_mask", "segment_ids")
    )

    def test_texts_are_tokenized_as_long_as_they_are(self, embedder, tmp_path):
        texts = ["Thanks!", "", "Water boils at a lower temperature in the mountains."]
        path = tmp_path / "texts.txt"
        path.write_text("\n".join(texts), encoding="utf-8")
        for calibration in (texts, path, str(path)):
            samples = calibration_samples(embedder, self.SPECS, calibration)
            assert len(samples) == 2
            for sample, text in zip(samples, (texts[0], texts[2]), strict=True):
                ids = tokenize(embedder.preprocessor, [text], 32)
                length = int(ids["padding_mask"].sum())
                np.testing.assert_array_equal(sample["token_ids"], ids["token_ids"][:, :length])

    def test_more_texts_than_are_used_are_picked_from_all_of_them(self, embedder, monkeypatch):
        monkeypatch.setattr(samples_module, "MAX_TEXTS", 3)
        texts = ["Nought.", "One.", "Two.", "Three.", "Four.", "Five.", "Six."]
        used = calibration_samples(embedder, self.SPECS, texts)
        expected = tokenize(embedder.preprocessor, ["Nought.", "Two.", "Four."], 32)["token_ids"]
        assert [list(x["token_ids"][0]) for x in used] == [
            [i for i in row if i] for row in expected
        ]

    def test_more_tokens_than_are_used_are_picked_from_all_texts(self, embedder, monkeypatch):
        monkeypatch.setattr(samples_module, "MAX_TOKENS", 10)
        used = calibration_samples(embedder, self.SPECS, ["One.", "Two.", "Three.", "Four."] * 2)
        every = tokenize(embedder.preprocessor, ["One.", "Two.", "Three.", "Four."] * 2, 32)
        step = -(-int(every["padding_mask"].sum()) // 10)
        assert 1 < len(used) == len(range(0, 8, step)) < 8
        for sample, row in zip(used, every["token_ids"][::step], strict=True):
            assert list(sample["token_ids"][0]) == [i for i in row if i]

    def test_fixed_lengths_are_padded(self, embedder):
        specs = tuple(TensorSpec(s.name, (1, 20), "int32") for s in self.SPECS)
        samples = calibration_samples(embedder, specs, ["Thanks!"])
        assert samples[0]["token_ids"].shape == (1, 20)
        assert 0 < samples[0]["padding_mask"].sum() < 20

    @pytest.mark.parametrize(
        "calibration, message",
        [
            ([], "0 entries"),
            (["", " "], "0 entries"),
            (["a", 3], r"\['int', 'str'\]"),
            ([{"token_ids": np.ones((1, 3))}], r"without \['padding_mask', 'segment_ids'\]"),
            ("no/such/file.txt", "cannot be read"),
        ],
    )
    def test_what_is_no_calibration_is_refused(self, embedder, calibration, message):
        with pytest.raises(ValueError, match=message):
            calibration_samples(embedder, self.SPECS, calibration)

    def test_texts_need_a_tokenizer(self):
        with pytest.raises(ValueError, match="which has none"):
            calibration_samples(common.encoder(), self.SPECS, ["Thanks!"])

    def test_a_recipe_that_is_fitted_to_samples_wants_the_users(self, embedder, tmp_path):
        path = tmp_path / "m.tflite"
        with pytest.raises(ValueError, match="int4 is fitted to sample inputs"):
            export.to_tflite(embedder, path, quantization="int4")
        with pytest.raises(ValueError, match="keeps one of 8 samples.*2 samples"):
            export.to_tflite(embedder, path, quantization="int4", calibration=["One.", "Two."])
        with pytest.raises(ValueError, match="'float16', which looks at none"):
            export.to_tflite(embedder, path, quantization="float16", calibration=["One."])
        assert not list(tmp_path.iterdir())
