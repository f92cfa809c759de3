"""@mediapipe/tasks-text in Chromium, on a file that holds the metadata it wants."""

import pathlib
import shutil
import threading

import numpy as np
import pytest

from keras_addnorm.demo import make_server
from keras_addnorm.export.runtime import LiteRTModel

PACKAGE = pathlib.Path(".clients/web/node_modules/@mediapipe/tasks-text")
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def served(tmp_path):
    """An empty page beside MediaPipe's package; yields its folder and address."""
    (tmp_path / "index.html").write_text(
        "<!doctype html><title>MediaPipe</title><link rel=icon href=data:>"
    )
    (tmp_path / "tasks-text").symlink_to(ROOT / PACKAGE)
    with make_server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


# The same kernels on the same ids, compiled for another instruction set: floats are summed in
# another order, and int8 steps that this moves past show in full.
@pytest.mark.parametrize("quantization, tolerance", [("float32", 1e-5), ("dynamic_int8", 0.02)])
def test_the_embedder(drive, minilm, embedder, sentences, served, quantization, tolerance):
    folder, url = served
    path = minilm(quantization=quantization, metadata=True)
    shutil.copyfile(path, folder / "model.tflite")
    seen = drive("mediapipe", url=url, texts=sentences)
    run = LiteRTModel(path, num_threads=1)
    expected = []
    for text in sentences:
        size = len(embedder.preprocessor.encode([text])[0].ids)
        expected.append(run(embedder.preprocessor.tokenize([text], size))["embedding"][0])
    received, expected = np.array(seen["embeddings"]), np.stack(expected)
    assert received.shape == (100, 384)
    print(f"{quantization}: error {np.abs(received - expected).max():.1e}")
    assert np.abs(received - expected).max() < tolerance
    assert (received * expected).sum(-1).min() > 1 - tolerance / 8
    # MediaPipe writes its notes where errors go, and reports its use to its makers.
    known = ("console: ", "elsewhere: https://odml.")
    assert [t for t in seen["troubles"] if not t.startswith(known)] == []
