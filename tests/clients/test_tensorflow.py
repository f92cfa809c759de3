"""Our SavedModel in TensorFlow's loader without Keras, its command line and its C API."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.export.test_to_saved_model import CLIENT

TENSORFLOW = pathlib.Path(tf.__file__).parent
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
# Float32, with other kernels of TensorFlow where the length or the batch is another one.
TOLERANCE = 2e-6


def run(*command):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=QUIET, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_loader_without_keras(saved_minilm, reference, ids_file, tmp_path):
    run(sys.executable, "-c", CLIENT, saved_minilm, ids_file, tmp_path / "out.npz")
    out = np.load(tmp_path / "out.npz")["embedding"]
    np.testing.assert_allclose(out, reference["embedding"], atol=TOLERANCE)


def cli(*arguments):
    return run(pathlib.Path(sys.executable).with_name("saved_model_cli"), *arguments)


def test_saved_model_cli_shows_all_signatures(saved_minilm):
    shown = cli("show", "--dir", saved_minilm, "--tag_set", "serve")
    names = re.findall(r'SignatureDef key: "(\w+)"', shown)
    assert {"serve", "serving_default", "serve_text", "embed", "tokenize"} <= set(names)
    shown = cli("show", "--dir", saved_minilm, "--tag_set", "serve", "--signature_def", "embed")
    assert "inputs['text']" in shown and "DT_STRING" in shown and "(-1, 384)" in shown


@pytest.mark.parametrize("signature", ["serving_default", "embed"])
def test_saved_model_cli_runs(saved_minilm, reference, sentences, ids_file, tmp_path, signature):
    if signature == "embed":
        np.savez(tmp_path / "text.npz", text=np.array(sentences[:16], object))
        inputs = ["--inputs", f"text={tmp_path / 'text.npz'}[text]"]
    else:
        names = ("token_ids", "padding_mask", "segment_ids")
        inputs = ["--inputs", ";".join(f"{name}={ids_file}[{name}]" for name in names)]
    where = ("--dir", saved_minilm, "--tag_set", "serve", "--signature_def", signature)
    cli("run", *where, *inputs, "--outdir", tmp_path)
    out = np.load(tmp_path / "embedding.npy")
    np.testing.assert_allclose(out, reference["embedding"], atol=TOLERANCE)


def test_a_c_program(saved_minilm, reference, sentences, tmp_path):
    """Compiled against the headers and libraries of TensorFlow's own wheel."""
    program = tmp_path / "embed"
    source = pathlib.Path(__file__).with_name("embed.c")
    libraries = [TENSORFLOW / f"libtensorflow_{name}.so.2" for name in ("cc", "framework")]
    run(
        *("gcc", "-Wall", "-O2", source, f"-I{TENSORFLOW / 'include'}", "-o", program),
        *(*libraries, f"-Wl,-rpath,{TENSORFLOW}"),
    )
    where = ("--dir", saved_minilm, "--tag_set", "serve", "--signature_def", "embed")
    names = re.findall(r"name: (\S+:\d+)", cli("show", *where))
    out = run(program, saved_minilm, *names, *sentences[:16])
    rows = np.array([line.split() for line in out.splitlines()], "float32")
    np.testing.assert_allclose(rows, reference["embedding"], atol=TOLERANCE)
