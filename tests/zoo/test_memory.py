"""Importing a checkpoint takes little more memory than its weights."""

import pathlib
import subprocess
import sys

import pytest

from tests.zoo.common import needs_weights

# Weights stream in: above the interpreter, at most this many times the checkpoint's size.
PEAK = 1.3

PROGRAM = """
import keras, safetensors, tensorflow
from keras_addnorm import zoo

def status(key):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(lines[key].split()[0])

tensorflow.constant(1.0)
before = status("VmRSS")
model = zoo.from_hugging_face("minilm")
size = (zoo.resolve("minilm") / "model.safetensors").stat().st_size
print((status("VmHWM") - before) / size)
"""


@needs_weights
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux")
def test_peak_memory_of_an_import():
    run = [sys.executable, "-c", PROGRAM]
    ratio = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert 0.9 < ratio <= PEAK  # Less would mean that the weights were not there yet.
