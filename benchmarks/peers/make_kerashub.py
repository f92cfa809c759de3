"""all-MiniLM-L6-v2 by KerasHub and Keras's own LiteRT export.

    python make_kerashub.py CHECKPOINT OUT

Writes `kerashub_<dtype>_<shape>.tflite`: float32, and int8 by the converter's dynamic range
quantization of the same graph; shapes as in `shapes.py`, and `any` for any batch and length.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import tensorflow as tf  # noqa: E402
from shapes import SHAPES  # noqa: E402

NAMES = ("token_ids", "padding_mask", "segment_ids")


class MeanPooling(keras.layers.Layer):
    """The mean over unpadded positions, of length 1, as sentence-transformers does it."""

    def call(self, sequence, padding_mask):
        weights = keras.ops.expand_dims(keras.ops.cast(padding_mask, sequence.dtype), -1)
        summed = keras.ops.sum(sequence * weights, axis=1)
        mean = summed / keras.ops.maximum(keras.ops.sum(weights, axis=1), 1e-9)
        return keras.ops.normalize(mean, axis=-1)

    def compute_output_shape(self, sequence_shape, padding_mask_shape):
        return sequence_shape[0], sequence_shape[2]


def embedder(backbone, batch, length):
    """The backbone and the pooling as a model of one shape."""
    inputs = {
        name: keras.Input(batch_shape=(batch, length), dtype="int32", name=name) for name in NAMES
    }
    sequence = backbone(inputs)["sequence_output"]
    return keras.Model(inputs, {"embedding": MeanPooling()(sequence, inputs["padding_mask"])})


def main(checkpoint, out):
    """Writes all files."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    backbone = keras_hub.models.BertBackbone.from_preset(str(checkpoint))
    for name, (batch, length) in {**SHAPES, "any": (None, None)}.items():
        model = embedder(backbone, batch, length)
        signature = {
            n: keras.InputSpec(shape=(batch, length), dtype="int32", name=n) for n in NAMES
        }
        for dtype, optimizations in (("float32", []), ("int8", [tf.lite.Optimize.DEFAULT])):
            path = out / f"kerashub_{dtype}_{name}.tflite"
            model.export(
                str(path),
                format="litert",
                input_signature=[signature],
                verbose=False,
                optimizations=optimizations,
            )
            print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
