"""The page of `keras-addnorm demo` in Debian's Chromium, used with the keyboard."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tokenizers import Tokenizer

from keras_addnorm import export
from keras_addnorm.demo import make_server

ROOT = pathlib.Path(__file__).parents[2]
SCREENSHOTS = ROOT / ".clients" / "screenshots"
QUERY = "a pet that takes a nap"
# The same int8 products in another instruction set: sums of floats round in another order, and one
# that moves past a step of the quantization moves by all of it.
TOLERANCE, MIN_COSINE = 0.02, 0.998
EXACT = 1e-5  # of the float32 file, where nothing is rounded to steps


def embed(reference, texts):
    return np.stack([reference.embed(text) for text in texts])


def start(folder, port=0):
    """Starts `keras-addnorm demo`; returns the process and the first line that it prints."""
    options = ["--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_addnorm.cli", "demo", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    return process, process.stdout.readline().strip()


def stop(process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def seen(drive, sentences, tmp_path_factory):
    """What a visitor sees: a first start, as the errors and the command's output lead through it;
    the page; and the page again when the server is gone."""
    folder = tmp_path_factory.mktemp("site")
    profile = tmp_path_factory.mktemp("profile")
    process, first = start(folder)
    code, _, err = stop(process) if first else (process.wait(60), "", process.stderr.read())
    command = re.search(r"Run `(npm ci [^`]+)`", err)
    assert code == 1 and command, err
    subprocess.run(shlex.split(command[1]), check=True, capture_output=True, timeout=120)

    process, url = start(folder)
    assert url.startswith("http://127.0.0.1:"), process.communicate()[1]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    request = {"url": url, "query": QUERY, "profile": str(profile)}
    try:
        online = drive("page", texts=sentences, screenshots=str(SCREENSHOTS), **request)
    finally:
        ended = stop(process)
    offline = drive("page", offline=True, **request)
    return {"folder": folder, "online": online, "offline": offline, "ended": ended}


class Reference:
    """The bundle in Python: LiteRT's interpreter and Hugging Face's tokenizers."""

    def __init__(self, bundle):
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        self.signatures = {s["length"]: s["name"] for s in manifest["model"]["signatures"]}
        self.interpreter = Interpreter(str(bundle / "model.tflite"))
        self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max(self.signatures))

    def embed(self, text):
        ids = self.tokenizer.encode(text).ids
        length = min(n for n in self.signatures if n >= len(ids))
        row = np.zeros((3, 1, length), "int32")
        row[0, 0, : len(ids)], row[1, 0, : len(ids)] = ids, 1
        run = self.interpreter.get_signature_runner(self.signatures[length])
        return run(token_ids=row[0], padding_mask=row[1], segment_ids=row[2])["embedding"][0]


@pytest.fixture(scope="module")
def reference(seen):
    return Reference(seen["folder"] / "bundle")


@pytest.fixture(scope="module")
def ranked(seen, reference):
    """The page's sentences as Python ranks them for the query: (score, sentence), best first."""
    topics = json.loads((seen["folder"] / "sentences.json").read_text(encoding="utf-8"))
    texts = [text for topic in topics for text in topic["sentences"]]
    assert len(set(texts)) == 200
    query = reference.embed(QUERY)
    return sorted(((float(reference.embed(text) @ query), text) for text in texts), reverse=True)


def test_nothing_goes_wrong(seen):
    for visit in ("online", "offline"):
        assert seen[visit]["troubles"] == []
        assert seen[visit]["error"] == ""
        checked = re.search(r"tokenizer checked on (\d+) of (\d+) texts", seen[visit]["facts"])
        assert checked[1] == checked[2] and int(checked[1]) > 10


def test_the_right_first_result(seen, ranked):
    page = seen["online"]["typed"]
    assert page["query"] == QUERY
    assert page["texts"][0] == ranked[0][1] == "A cat is sleeping on the windowsill."
    assert page["news"] == f"The closest of 200: {ranked[0][1]}"
    assert re.fullmatch(r"Embedded in .* ms, 200 sentences ranked in .* ms\.", page["state"])


def test_the_ranking_of_python(seen, ranked):
    page = seen["online"]["typed"]
    expected = {text: score for score, text in ranked}
    scores = [float(note.split(" · ")[0]) for note in page["notes"]]
    assert len(scores) == 8 and scores == sorted(scores, reverse=True)
    for text, score, (in_place, _) in zip(page["texts"], scores, ranked, strict=False):
        assert abs(score - expected[text]) < TOLERANCE + 0.005  # shown with two digits
        assert abs(expected[text] - in_place) < TOLERANCE


def test_the_embeddings_of_python(seen, reference, sentences):
    received, expected = np.array(seen["online"]["embeddings"]), embed(reference, sentences)
    assert received.shape == (100, 384)
    error = np.abs(received - expected).max()
    cosine = (received * expected).sum(-1).min()
    print(f"error {error:.2e}, cosine {cosine:.6f}, ms {seen['online']['milliseconds']}")
    assert error < TOLERANCE and cosine > MIN_COSINE
    assert np.abs(np.linalg.norm(received, axis=-1) - 1).max() < 1e-5


def test_a_float32_bundle(seen, drive, embedder, sentences, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(seen["folder"], site, ignore=shutil.ignore_patterns("bundle"), symlinks=True)
    export.to_text_bundle(embedder, site / "bundle", quantization="float32", lengths=(16, 64))
    with make_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        page = drive("page", url=url, query=QUERY, texts=sentences, screenshots=str(tmp_path))
        server.shutdown()
    assert page["troubles"] == []
    received, expected = np.array(page["embeddings"]), embed(Reference(site / "bundle"), sentences)
    error = np.abs(received - expected).max()
    print(f"float32: error {error:.2e}, ms {page['milliseconds']}")
    assert error < EXACT


def test_the_keyboard_is_enough(seen):
    page = seen["online"]
    example = "I forgot my login"
    assert page["focus"] == ["query", example, "query"]  # At first; after two Tabs; after "/".
    assert page["example"]["query"] == example
    assert page["example"]["texts"][0] == "How can I change my account password?"
    assert page["cleared"]["texts"] == [] and "200 sentences are ready" in page["cleared"]["state"]


def test_a_query_is_text_and_not_markup(seen):
    assert len(seen["online"]["markup"]["texts"]) == 8


def test_no_sideways_scrolling(seen):
    overflows = seen["online"]["overflows"]
    assert len(overflows) == 4 and set(overflows.values()) == {0}


def test_threads(seen):
    assert seen["online"]["isolated"] and seen["offline"]["isolated"]


def test_without_the_server(seen):
    assert seen["offline"]["typed"]["texts"] == seen["online"]["typed"]["texts"]
    assert seen["offline"]["typed"]["notes"] == seen["online"]["typed"]["notes"]
    assert "works offline" in seen["offline"]["facts"]


def test_ctrl_c_is_the_end(seen):
    code, out, err = seen["ended"]
    assert code == 0 and "Traceback" not in err and "error" not in err


def test_a_second_start_takes_the_bundle_that_is_there(seen):
    model = seen["folder"] / "bundle" / "model.tflite"
    before = model.stat().st_mtime_ns
    process, url = start(seen["folder"])
    code, _, err = stop(process)
    assert url.startswith("http://") and code == 0
    assert "loading minilm" not in err and model.stat().st_mtime_ns == before
