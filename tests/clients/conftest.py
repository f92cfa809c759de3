"""What the tests of clients share: the exported MiniLM, and how a client is asked."""

import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from keras_addnorm import export, zoo

ROOT = pathlib.Path(__file__).parents[2]
SENTENCES = ROOT / "examples" / "data" / "sentences.txt"
DRIVERS = pathlib.Path(__file__).with_name("web")
TIMEOUT = 600  # seconds that a client may take for one request


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.clients)


def client_python(client):
    """The Python of a client's environment, which `make clients` makes.

    Not a skip where it is missing: a client that is not asked proves nothing.
    """
    python = ROOT / ".clients" / client / "bin" / "python"
    if not python.exists():
        pytest.fail(f"the client {client} is not installed: run `make .clients/{client}/installed`")
    return python


@pytest.fixture
def ask(tmp_path):
    """Asks a client: runs `<client>_worker.py` there on a request and returns its reply.

    The worker gets two paths: that of the request, a JSON file, and that where it writes its
    reply as JSON. It sees neither this package nor its environment.
    """

    def ask(client, **request):
        worker = pathlib.Path(__file__).with_name(f"{client}_worker.py")
        asked, reply = tmp_path / "request.json", tmp_path / "reply.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        reply.unlink(missing_ok=True)
        command = [client_python(client), "-I", worker, asked, reply]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(reply.read_text(encoding="utf-8"))

    return ask


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    """Runs a driver of `tests/clients/web` in node on a request; returns its reply."""
    packages = ROOT / ".clients" / "web"
    chromium = shutil.which("chromium")
    assert (packages / "node_modules").is_dir(), "run `make .clients/web/installed`"
    assert chromium, "chromium is not installed: apt-get install chromium"

    def drive(driver, **request):
        folder = tmp_path_factory.mktemp("drive")
        asked, reply = folder / "request.json", folder / "reply.json"
        request |= {"packages": str(packages), "chromium": chromium}
        asked.write_text(json.dumps(request), encoding="utf-8")
        command = ["node", DRIVERS / f"{driver}.mjs", asked, reply]
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        assert run.returncode == 0, run.stderr[-3000:]
        return json.loads(reply.read_text(encoding="utf-8"))

    return drive


@pytest.fixture(scope="session")
def embedder():
    """all-MiniLM-L6-v2 as a `TextEmbedder` with its tokenizer."""
    return zoo.from_hugging_face("minilm", task="embed")


@pytest.fixture(scope="session")
def sentences():
    """100 real sentences."""
    return SENTENCES.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def minilm(embedder, tmp_path_factory):
    """Exports MiniLM once a run for each set of options of `to_tflite`; returns the file's path."""
    made = {}

    def minilm(**options):
        key = json.dumps(options, sort_keys=True)
        if key not in made:
            path = tmp_path_factory.mktemp("minilm") / "model.tflite"
            export.to_tflite(embedder, path, **options)
            made[key] = path
        return made[key]

    return minilm


@pytest.fixture(scope="session")
def saved_minilm(embedder, tmp_path_factory):
    """MiniLM as a SavedModel; the directory's path."""
    path = tmp_path_factory.mktemp("saved") / "minilm"
    export.to_saved_model(embedder, path, text=True)
    return path


@pytest.fixture(scope="session")
def reference(embedder, sentences):
    """The first 16 sentences' ids, padded, and their embeddings by Keras, as arrays by name."""
    encodings = embedder.preprocessor.encode(sentences[:16])
    ids = embedder.preprocessor.pad(encodings, max(len(x.ids) for x in encodings))
    return {**ids, "embedding": np.asarray(embedder(ids))}


@pytest.fixture
def ids_file(reference, tmp_path):
    """The ids of `reference` as an .npz, one array a name."""
    path = tmp_path / "ids.npz"
    np.savez(path, **{k: v for k, v in reference.items() if k != "embedding"})
    return path
