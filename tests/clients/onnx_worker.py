"""Makes ONNX files with tf2onnx and with Keras, and runs them in ONNX Runtime."""

import json
import os
import subprocess
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import onnxruntime


def by_tf2onnx(saved_model, path):
    command = [sys.executable, "-m", "tf2onnx.convert", "--opset", "18", "--output", path]
    options = ["--saved-model", saved_model, "--signature_def", "serving_default"]
    subprocess.run([*command, *options], check=True, capture_output=True, text=True)


def by_keras(file, ids, path):
    import keras

    def gelu(x):  # TensorFlow's GELU holds Erfc, which is no operator of ONNX.
        return 0.5 * x * (1.0 + keras.ops.erf(x * 0.5**0.5))

    model = keras.saving.load_model(file)
    for layer in model.layers:
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = gelu
    model({tensor.name: ids[tensor.name] for tensor in model.inputs})
    model.export(path, format="onnx", opset_version=18, verbose=False)


def embed(path, ids):
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {x.name: ids[x.name] for x in session.get_inputs()})[0]


request = json.load(open(sys.argv[1], encoding="utf-8"))
ids = dict(np.load(request["ids"]))
folder = os.path.dirname(sys.argv[2])
reply = {}
for name in ("tf2onnx", "keras"):
    path = os.path.join(folder, f"{name}.onnx")
    if name == "keras":
        by_keras(request["keras_file"], ids, path)
    else:
        by_tf2onnx(request["saved_model"], path)
    reply[name] = embed(path, ids).tolist()
json.dump(reply, open(sys.argv[2], "w", encoding="utf-8"))
