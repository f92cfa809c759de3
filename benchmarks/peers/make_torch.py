"""all-MiniLM-L6-v2 for ONNX Runtime and OpenVINO, of any batch and length.

    python make_torch.py CHECKPOINT OUT

Writes `onnx_float32.onnx`, `onnx_int8.onnx` (dynamic quantization) and `openvino_<dtype>.xml`:
float32, int8 (post-training quantization calibrated on real sentences, none of which is measured)
and w8 (weights alone; the runtime quantizes activations on the fly).
"""

import pathlib
import sys

import nncf
import numpy as np
import onnx
import openvino
import tokenizers
import torch
from minilm import NAMES, Embedder, example
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import texts  # noqa: E402


def write_onnx(checkpoint, out):
    """The float32 and int8 ONNX files."""
    path = out / "onnx_float32.onnx"
    inputs = example(2, 24)
    axes = {name: {0: "batch", 1: "length"} for name in NAMES}
    torch.onnx.export(
        Embedder(checkpoint),
        tuple(inputs.values()),
        str(path),
        input_names=list(NAMES),
        output_names=["embedding"],
        dynamic_axes={**axes, "embedding": {0: "batch"}},
        dynamo=False,
    )
    onnx.checker.check_model(str(path))
    prepared = out / "prepared.onnx"
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    small = out / "onnx_int8.onnx"
    quantize_dynamic(str(prepared), str(small), weight_type=QuantType.QInt8, per_channel=True)
    prepared.unlink()
    return path


def calibration(checkpoint):
    """Inputs of real sentences that the benchmark does not measure."""
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(checkpoint) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    for text in texts.calibration_sentences():
        ids = np.array([tokenizer.encode(text).ids], "int64")
        yield {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": 0 * ids}


def write_openvino(checkpoint, source, out):
    """The three OpenVINO models."""
    model = openvino.convert_model(str(source))
    openvino.save_model(model, str(out / "openvino_float32.xml"), compress_to_fp16=False)
    samples = list(calibration(checkpoint))
    quantized = nncf.quantize(
        openvino.convert_model(str(source)),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    openvino.save_model(quantized, str(out / "openvino_int8.xml"), compress_to_fp16=False)
    weights = nncf.compress_weights(
        openvino.convert_model(str(source)), mode=nncf.CompressWeightsMode.INT8_SYM
    )
    openvino.save_model(weights, str(out / "openvino_w8.xml"), compress_to_fp16=False)


def main(checkpoint, out):
    """Writes all files."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_openvino(checkpoint, write_onnx(checkpoint, out), out)
    for path in sorted(out.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
