"""all-MiniLM-L6-v2 by litert-torch, and quantized by ai-edge-quantizer.

    python make_litert_torch.py CHECKPOINT OUT

Writes `litert_torch_<dtype>_<shape>.tflite`, for fixed shapes, which is what litert-torch makes.
"""

import pathlib
import sys

import litert_torch
from ai_edge_quantizer import quantizer, recipe
from minilm import Embedder, example
from shapes import SHAPES


def main(checkpoint, out):
    """Writes all files."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model = Embedder(checkpoint)
    for name, (batch, length) in SHAPES.items():
        path = out / f"litert_torch_float32_{name}.tflite"
        inputs = {key: value.int() for key, value in example(batch, length).items()}
        litert_torch.convert(model, sample_kwargs=inputs).export(str(path))
        small = out / f"litert_torch_int8_{name}.tflite"
        quantize = quantizer.Quantizer(str(path))
        quantize.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        quantize.quantize().export_model(str(small), overwrite=True)
        print(path.name, path.stat().st_size, small.name, small.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
