"""Runs models in OpenVINO, which reads .tflite files and SavedModels as they are."""

import json
import sys

import numpy as np
import openvino


def named(port, names):
    """The input that a port is; LiteRT's ports are called `serving_default_<input>:0`."""
    return next(name for name in names if any(name in known for known in port.get_names()))


def embed(path, ids):
    """Embeds padded rows; one by one, without padding, where the file takes one."""
    model = openvino.Core().read_model(path)
    # Its default on some CPUs is bfloat16.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    fixed = compiled.inputs[0].partial_shape[0].is_static
    rows = []
    for start in range(len(ids["token_ids"])) if fixed else [slice(None)]:
        row = slice(start, start + 1) if fixed else start
        length = ids["padding_mask"][row].sum(axis=1).max()
        feed = {p.any_name: ids[named(p, ids)][row, :length] for p in compiled.inputs}
        rows.append(compiled(feed)[0])
    return np.concatenate(rows)


request = json.load(open(sys.argv[1], encoding="utf-8"))
ids = dict(np.load(request["ids"]))
reply = {name: embed(path, ids).tolist() for name, path in request["models"].items()}
json.dump(reply, open(sys.argv[2], "w", encoding="utf-8"))
