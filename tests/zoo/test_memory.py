"""Importing a checkpoint takes little more memory than its weights."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_addnorm import zoo
from keras_addnorm.zoo.config import ConfigReader

# Weights stream in: above the interpreter, at most this many times the checkpoint's size.
PEAK = 1.3

# A multilingual encoder in small: the table of tokens, 154 MB, is most of it.
CONFIG = {
    "model_type": "bert",
    "vocab_size": 100_000,
    "hidden_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}

PROGRAM = """
import sys
import keras, safetensors, tensorflow
from keras_addnorm import zoo

def status(key):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(lines[key].split()[0])

tensorflow.constant(1.0)
before = status("VmRSS")
model = zoo.from_hugging_face(sys.argv[1])
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux")
def test_peak_memory_of_an_import(tmp_path):
    family = zoo.FAMILIES["bert"]
    config = family.encoder_config(ConfigReader(CONFIG, family.ignored_keys))
    tensors = {row.tensor: np.ones(row.shape, "float32") for row in family.weights(config)}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, tmp_path / "model.safetensors")
    size = (tmp_path / "model.safetensors").stat().st_size
    run = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    peak = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert 0.9 * size < peak <= PEAK * size  # Less would mean that there are no weights yet.
