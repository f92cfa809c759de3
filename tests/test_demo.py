"""`keras-addnorm demo` without a browser: what it serves, and what it refuses."""

import http.client
import json
import re
import shutil
import threading

import pytest

from keras_addnorm import cli, demo, export
from tests.export import common


@pytest.fixture
def site(tmp_path):
    """A served folder; yields it and a function that asks for a path."""
    with demo.make_server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def get(path, **headers):
            connection = http.client.HTTPConnection(demo.HOST, server.server_port, timeout=10)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

        yield tmp_path, get
        server.shutdown()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "bundle"
    lengths = demo.LENGTHS
    model = common.embedder(max_sequence_length=max(lengths))
    export.to_text_bundle(model, folder, quantization=None, lengths=lengths)
    return folder


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "bundle")


@pytest.mark.parametrize(
    "name, kind",
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.js", "text/javascript"),
        ("a.mjs", "text/javascript"),
        ("a.wasm", "application/wasm"),
        ("a.json", "application/json"),
        ("a.tflite", "application/octet-stream"),
    ],
)
def test_served_files(site, name, kind):
    folder, get = site
    (folder / name).write_bytes(b"content")
    status, headers, body = get(f"/{name}?sha256=0")
    assert (status, body, headers["Content-Type"]) == (200, b"content", kind)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cache-Control"] == "no-cache"


def test_what_is_not_served(site):
    folder, get = site
    (folder.parent / "secret").write_text("secret")
    (folder / "sub").mkdir()
    for path in ("/../secret", "/%2e%2e/secret", "/sub/../../secret", "/sub/", "/", "/none"):
        status, _, body = get(path)
        assert status == 404 and b"secret" not in body.replace(path.encode(), b""), path


def test_only_this_machine_is_served(tmp_path):
    with demo.make_server(tmp_path, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_names_that_other_sites_let_point_here(site):
    folder, get = site
    (folder / "a.json").write_text("{}")
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example"):
        assert get("/a.json", Host=host)[0] == 421
    for host in ("127.0.0.1", "127.0.0.1:8000", "localhost:8000"):
        assert get("/a.json", Host=host)[0] == 200


def test_a_whole_bundle(bundle):
    assert demo.is_whole(bundle)


@pytest.mark.parametrize("name", ["model.tflite", "tokenizer.json", "tokenization.json"])
def test_a_changed_file(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    assert not demo.is_whole(bundle)


@pytest.mark.parametrize("name", ["model.tflite", "manifest.json"])
def test_a_missing_file(bundle, name):
    (bundle / name).unlink()
    assert not demo.is_whole(bundle)


def spoil(manifest, kind):
    if kind == "outside":
        manifest["files"]["../secret"] = {"bytes": 0, "sha256": "0"}
    elif kind == "any length":
        manifest["model"]["signatures"][0]["length"] = None
    elif kind == "task":
        manifest["task"] = "classify"
    elif kind == "another version":
        manifest["version"] = 99
    elif kind == "no files":
        manifest["files"] = {}
    elif kind == "no digest":
        manifest["files"]["model.tflite"] = []


@pytest.mark.parametrize(
    "kind", ["outside", "any length", "task", "another version", "no files", "no digest"]
)
def test_other_manifests(bundle, kind):
    (bundle.parent / "secret").write_bytes(b"")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    spoil(manifest, kind)
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert not demo.is_whole(bundle)


@pytest.mark.parametrize("text", ["", "[]", "null", '"x"', "[" * 100000, " " * 2**20 + "{}"])
def test_broken_manifests(bundle, text):
    (bundle / "manifest.json").write_text(text, encoding="utf-8")
    assert not demo.is_whole(bundle)


def command(capfd, *arguments):
    capfd.readouterr()
    code = cli.main(["demo", *map(str, arguments)])
    out, err = capfd.readouterr()
    (line,) = [line for line in err.splitlines() if not line.startswith("... ")]
    assert code == 1 and out == "" and line.startswith("error: ")
    return line


def test_without_litert_js(capfd, tmp_path):
    folder = tmp_path / "a site"
    line = command(capfd, "--folder", folder, "--port", 0)
    assert re.search(
        r"runs on LiteRT\.js \d+\.\d+\.\d+, which comes from npm\. Received: none", line
    )
    assert f"Run `npm ci --prefix '{folder}'`" in line
    # What that command needs is there, and the page.
    names = {path.name for path in folder.iterdir()}
    assert names >= {"package.json", "package-lock.json", "index.html", "app.js", "sentences.json"}


def test_a_folder_of_somebody_else_is_left_alone(capfd, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    line = command(capfd, "--folder", tmp_path, "--port", 0)
    assert f"{tmp_path}, whose index.html is not of the page" in line
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "mine"


def test_with_another_litert_js(capfd, tmp_path):
    package = tmp_path / demo.RUNTIME / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "0.1.0"}', encoding="utf-8")
    assert "Received: version 0.1.0" in command(capfd, "--folder", tmp_path, "--port", 0)


def test_a_port_that_is_taken(capfd, tmp_path):
    with demo.make_server(tmp_path, 0) as server:
        line = command(capfd, "--folder", tmp_path, "--port", server.server_port)
    assert f"Port {server.server_port}" in line and "another --port" in line


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_port(capfd, tmp_path, port):
    line = command(capfd, "--folder", tmp_path, f"--port={port}")
    assert f"between 0 and 65535. Received: {port}" in line


def test_the_lock_file_names_no_host():
    text = (demo.PAGE / "package-lock.json").read_text(encoding="utf-8")
    assert "http" not in text and '"integrity"' in text
