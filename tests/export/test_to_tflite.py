"""What `to_tflite` writes, run with LiteRT's own interpreter."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_addnorm import export
from tests.common import to_numpy
from tests.export import common

MODELS = {
    "post_norm": lambda: common.encoder(),
    "pre_norm": lambda: common.encoder(residual="pre_norm", norm="rms_norm", activation="gelu"),
    "bert": lambda: common.encoder(
        position="learned", num_segments=2, embedding_norm=True, pooler="tanh", activation="gelu"
    ),
    "embedder": common.embedder,
    "max embedder": lambda: common.embedder(position="learned"),
    "own layers": common.own_model,
    "plain keras": common.plain_keras_model,
    "sequential": common.sequential,
}


def run_litert(path, inputs):
    """Runs one row through the interpreter, without this package's own runner."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner("serving_default")
    return {name: np.array(value) for name, value in runner(**inputs).items()}


@pytest.mark.parametrize("sequence_length", [16, None])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_exported_with_built_in_ops_in_one_partition(
    tmp_path, name, sequence_length
):
    path = tmp_path / "model.tflite"
    report = export.to_tflite(MODELS[name](), path, sequence_length=sequence_length)
    assert path.stat().st_size == report.bytes
    assert report.verification and not any(op.startswith("CUSTOM") for op in report.operators)
    assert report.xnnpack_partitions == 1
    assert {spec.dtype for spec in report.inputs} <= {"int32", "float32"}
    assert all(d.max_abs_error <= 1e-4 * max(1, d.max_abs_value) for d in _differences(report))


def _differences(report):
    return report.verification.values()


def test_names_shapes_and_values(tmp_path):
    model = MODELS["bert"]()
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=8)
    inputs = {
        "token_ids": np.array([[5, 9, 1, 0, 0, 0, 0, 0]], "int32"),
        "padding_mask": np.array([[1, 1, 1, 0, 0, 0, 0, 0]], "int32"),
        "segment_ids": np.array([[0, 1, 1, 0, 0, 0, 0, 0]], "int32"),
    }
    assert {s.name: (s.shape, s.dtype) for s in report.inputs} == {
        name: ((1, 8), "int32") for name in inputs
    }
    assert {s.name: s.shape for s in report.outputs} == {
        "sequence_output": (1, 8, 32),
        "pooled_output": (1, 32),
    }
    outputs, expected = run_litert(tmp_path / "m.tflite", inputs), model(inputs)
    for key in expected:
        # Some ten float32 matmuls in another order, on values of a few units.
        np.testing.assert_allclose(outputs[key], to_numpy(expected[key]), atol=2e-5)


def test_unnamed_inputs_and_outputs_get_stable_names(tmp_path):
    for model in (common.sequential(), common.sequential()):
        report = export.to_tflite(model, tmp_path / "m.tflite", overwrite=True)
        assert [s.name for s in report.inputs] == ["input_0"]
        assert [s.name for s in report.outputs] == ["output"]
    report = export.to_tflite(common.plain_keras_model(), tmp_path / "p.tflite")
    assert [s.name for s in (*report.inputs, *report.outputs)] == ["image", "logits"]


@pytest.mark.parametrize("length", [1, 5, 32])
def test_any_length_after_resizing(tmp_path, length):
    model = common.embedder()
    path = tmp_path / "m.tflite"
    if not path.exists():
        export.to_tflite(model, path, sequence_length=None)
    ids = np.arange(1, length + 1, dtype="int32")[None]
    inputs = {
        "token_ids": ids,
        "padding_mask": np.ones_like(ids),
        "segment_ids": np.zeros_like(ids),
    }
    expected = to_numpy(model(inputs))
    np.testing.assert_allclose(run_litert(path, inputs)["embedding"], expected, atol=1e-5)


def test_any_batch(tmp_path):
    model = common.encoder()
    report = export.to_tflite(model, tmp_path / "m.tflite", batch_size=None, sequence_length=8)
    assert report.inputs[0].shape == (None, 8)
    inputs = {
        "token_ids": np.arange(24, dtype="int32").reshape(3, 8),
        "padding_mask": np.ones((3, 8), "int32"),
    }
    expected = to_numpy(model(inputs)["sequence_output"])
    outputs = run_litert(tmp_path / "m.tflite", inputs)
    np.testing.assert_allclose(outputs["sequence_output"], expected, atol=2e-5)


@pytest.mark.parametrize(
    "quantization, dtype, share", [("float16", "FLOAT16", 0.6), ("dynamic_int8", "INT8", 0.4)]
)
def test_quantization(tmp_path, quantization, dtype, share):
    model = common.embedder(hidden_dim=128, num_heads=4, intermediate_dim=256)
    full = export.to_tflite(model, tmp_path / "full.tflite", sequence_length=16)
    path = tmp_path / "small.tflite"
    report = export.to_tflite(model, path, quantization=quantization, sequence_length=16)
    assert report.quantization == quantization
    assert report.bytes < share * full.bytes
    assert report.weight_types[dtype] > report.weight_types.get("FLOAT32", 0)
    assert report.verification["embedding"].min_cosine >= 0.99


def test_nothing_to_quantize_is_an_error(tmp_path):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(4)(x))
    with pytest.raises(export.ExportError, match="under 1024 elements stay.*quantization=None"):
        export.to_tflite(model, tmp_path / "m.tflite", quantization="dynamic_int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_half_precision_models_are_exported_in_float32(tmp_path, dtype):
    half = common.embedder(dtype=dtype)
    report = export.to_tflite(half, tmp_path / "m.tflite", sequence_length=8)
    assert set(report.weight_types) <= {"FLOAT32", "INT32", "BOOL"}
    full = common.embedder(dtype="float32")
    full.set_weights([to_numpy(w.value) for w in half.weights])
    inputs = {
        "token_ids": np.array([[2, 7, 9, 3, 0, 0, 0, 0]], "int32"),
        "padding_mask": np.array([[1, 1, 1, 1, 0, 0, 0, 0]], "int32"),
        "segment_ids": np.zeros((1, 8), "int32"),
    }
    outputs = run_litert(tmp_path / "m.tflite", inputs)["embedding"]
    np.testing.assert_allclose(outputs, to_numpy(full(inputs)), atol=1e-5)


def test_the_report_and_the_tokenizer_are_saved_beside_the_model(tmp_path):
    report = export.to_tflite(common.embedder(), tmp_path / "m.tflite", sequence_length=16)
    saved = json.loads((tmp_path / "m.tflite.report.json").read_text())
    assert saved == json.loads(json.dumps({**dataclasses.asdict(report), "path": "m.tflite"}))
    assert saved["tokenizer"] == {
        "file": "m.tflite.tokenizer.json",
        "type": "WordPiece",
        "pad_token_id": 0,
        "special_tokens": {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        "sequence_length": 32,
    }
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "m.tflite.tokenizer.json"))
    assert tokenizer.encode("a cat").tokens == ["[CLS]", "a", "cat", "[SEP]"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "m.tflite",
        "m.tflite.report.json",
        "m.tflite.tokenizer.json",
    ]


def test_a_lora_model_exports_with_its_adapters(tmp_path):
    model = common.encoder()
    model.enable_lora(2)
    for weight in model.trainable_weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=8)
    assert report.xnnpack_partitions == 1
    assert report.verification["sequence_output"].min_cosine > 0.9999


def test_names_that_are_no_identifiers_and_nested_outputs(tmp_path):
    a, b = keras.Input((40,), name="my input"), keras.Input((40,), name="class")
    x = keras.layers.Dense(4)(a + b)
    model = keras.Model([a, b], {"heads": {"left": x, "right": 2.0 * x}})
    for write, name in ((export.to_tflite, "m.tflite"), (export.to_saved_model, "m")):
        report = write(model, tmp_path / name)
        assert sorted(s.name for s in report.inputs) == ["input_class", "my_input"]
        assert sorted(s.name for s in report.outputs) == ["heads_left", "heads_right"]


def test_a_fixed_length_needs_no_sequence_length(tmp_path):
    from keras_addnorm.layers import TokenAndPositionEmbedding

    ids = keras.Input((8,), dtype="int32", name="ids")
    model = keras.Model(ids, TokenAndPositionEmbedding(100, 8, 16)(ids))
    report = export.to_tflite(model, tmp_path / "m.tflite")
    assert report.inputs[0].shape == (1, 8)


def test_a_runner_can_be_shared_by_threads(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from keras_addnorm.export.runtime import open_model

    export.to_tflite(common.sequential(), tmp_path / "m.tflite")
    run = open_model(tmp_path / "m.tflite")
    rows = np.random.default_rng(0).normal(size=(200, 1, 40)).astype("float32")
    want = [run({"input_0": row})["output"] for row in rows]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda row: run({"input_0": row})["output"], rows))
    np.testing.assert_array_equal(got, want)


ATTENTION = {
    "grouped queries": {"num_key_value_heads": 2},
    "rotary": {"rotary": {"max_sequence_length": 32}},
    "interleaved rotary": {"rotary": {"interleaved": True, "rotary_dim": 4}},
    "window and QK norm": {"sliding_window": 3, "qk_norm": "rms_norm"},
    "gate": {"use_gate": True, "use_bias": ["query", "output"]},
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_options_are_exported_in_one_partition(tmp_path, name):
    from keras_addnorm.layers import ALiBi, MultiHeadAttention

    x = keras.Input((None, 32), name="x")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    attention = MultiHeadAttention(4, **ATTENTION[name])
    y = attention(x, key_mask=mask, position_bias=ALiBi(4)(x))
    model = common.randomize(keras.Model([x, mask], {"y": y}))
    report = export.to_tflite(model, tmp_path / "m.tflite", sequence_length=16)
    assert report.xnnpack_partitions == 1
    assert report.verification["y"].min_cosine > 0.9999
    assert attention.guard_padding  # Exporting does not change the user's model.
