"""Loading: what the README says of the import, in a fresh process; and what `load_model` takes."""

import pathlib
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import keras_addnorm
from keras_addnorm.models import TransformerEncoder
from keras_addnorm.zoo.sources import MAX_JSON_BYTES
from tests.common import TINY_ENCODER, encoder_inputs, flat_outputs, randomize

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
LOADING = README.split("## Loading")[1].split("\n## ")[0]
CODE = LOADING.split("```python\n")[1].split("```")[0]
ERROR = re.search(r"TypeError: ([^`]*)`", LOADING).group(1)

FRESH_PROCESS = f"""
import keras

try:
    keras.saving.load_model("encoder.keras")
except TypeError as error:
    print(error)
{CODE}
print(type(model).__name__, keras_addnorm.__name__)
"""


@pytest.fixture
def encoder(rng):
    return randomize(TransformerEncoder(**TINY_ENCODER), rng)


def test_what_the_readme_says_of_the_import(encoder, tmp_path):
    encoder.save(tmp_path / "encoder.keras")
    run = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = run.stdout.splitlines()
    assert lines[0].startswith(ERROR) and ERROR
    assert lines[-1] == "TransformerEncoder keras_addnorm"


@pytest.mark.parametrize("kind", ["file", "preset"])
def test_files_and_presets(encoder, kind, rng, tmp_path):
    path = tmp_path / {"file": "encoder.keras", "preset": "preset"}[kind]
    if kind == "file":
        encoder.save(path)
    else:
        encoder.save_to_preset(str(path))
    inputs = encoder_inputs(rng)
    loaded = keras_addnorm.load_model(path)
    assert type(loaded) is TransformerEncoder
    for got, want in zip(flat_outputs(loaded(inputs)), flat_outputs(encoder(inputs)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"no archive")
    for name, message in (("m.keras", "no Keras model file"), ("n.keras", "no file")):
        with pytest.raises(ValueError, match=message):
            keras_addnorm.load_model(tmp_path / name)
    with pytest.raises(ValueError, match="no folder here"):
        keras_addnorm.load_model("neither here nor there")


def test_a_config_that_expands_beyond_the_limit_is_refused(tmp_path):
    assert f"{MAX_JSON_BYTES // 2**20} MiB" in LOADING
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (MAX_JSON_BYTES + 1))
    with pytest.raises(ValueError, match=f"config.json of {MAX_JSON_BYTES + 1} bytes"):
        keras_addnorm.load_model(tmp_path / "bomb.keras")
