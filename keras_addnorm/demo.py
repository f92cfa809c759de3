"""Sentence search in the browser: the page of examples/web with a model, served on this machine."""

import functools
import http.server
import json
import pathlib
import shlex
import shutil

from keras_addnorm.export import to_text_bundle
from keras_addnorm.export.bundle import MODEL, TOKENIZER
from keras_addnorm.text import BundleError
from keras_addnorm.text.bundle import MAX_MODEL_BYTES, VECTORS, open_bundle
from keras_addnorm.text.engine import read_signatures
from keras_addnorm.zoo import load

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
SOURCE, LICENSE = "minilm", "Apache-2.0"
LENGTHS = (16, 64, 128)  # LiteRT.js cannot resize inputs.

PAGE = pathlib.Path(__file__).with_name("web")  # in a clone a link to examples/web
SUFFIXES = (".html", ".css", ".js", ".json", ".svg")
MARK = '"keras-addnorm-web"'  # the name of the page in its package.json
RUNTIME = "node_modules/@litertjs/core"


def prepare(folder, progress):
    """Makes a static site: the page, and the bundle of all-MiniLM-L6-v2 unless it is there, whole.

    Args:
        folder: where it is made; any web server can serve it from there.
        progress: function of a step's name, called as each step starts.

    Raises:
        FileNotFoundError: if LiteRT.js, which comes from npm, is not in it.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(folder)
    for path in sorted(PAGE.iterdir()):
        if path.suffix in SUFFIXES:
            shutil.copyfile(path, folder / path.name)
    _check_runtime(folder)
    bundle = folder / "bundle"
    progress(f"checking {bundle}")
    if not is_whole(bundle):
        progress(f"loading {SOURCE}")
        to_text_bundle(
            load(SOURCE),
            bundle,
            lengths=LENGTHS,
            license=LICENSE,
            overwrite=True,
            progress=progress,
        )


def _refuse_foreign(folder):
    """Raises if the page would overwrite what is not the page."""
    taken = [p.name for p in PAGE.iterdir() if p.suffix in SUFFIXES and (folder / p.name).exists()]
    mark = folder / "package.json"
    if taken and not (mark.is_file() and MARK in mark.read_text("utf-8", "replace")):
        raise FileExistsError(
            f"The page is written to an empty folder, or over itself. Received: {folder}, whose "
            f"{taken[0]} is not of the page. Pass another --folder."
        )


def _check_runtime(folder):
    """Raises unless npm has installed the version of LiteRT.js that the page is made for."""
    lock = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))
    wanted = lock["packages"][RUNTIME]["version"]
    try:
        text = (folder / RUNTIME / "package.json").read_text(encoding="utf-8")
        found = f"version {json.loads(text)['version']}"
    except (OSError, ValueError, KeyError, TypeError):
        found = "none"
    if found != f"version {wanted}":
        raise FileNotFoundError(
            f"The page runs on LiteRT.js {wanted}, which comes from npm. Received: {found}. "
            f"Run `npm ci --prefix {shlex.quote(str(folder))}` (npm is a part of Node.js), then "
            "start this again."
        )


def is_whole(folder):
    """Whether a folder is a bundle for the page, with the very files that its manifest names."""
    try:
        bundle = open_bundle(folder, "embed")
        signatures = read_signatures(bundle.manifest.section("model"))
        for name in {*bundle.files, MODEL, TOKENIZER, VECTORS}:
            bundle.read(name, MAX_MODEL_BYTES)
    except BundleError:
        return False
    return [signature.length for signature in signatures] == sorted(LENGTHS)


def make_server(folder, port):
    """A server of a folder's files, for this machine only; `serve_forever` runs it.

    Args:
        folder: what it serves.
        port: int, or 0 for a free one, which `server_port` then is.

    Raises:
        ValueError: if `port` is no port.
        OSError: if it is taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(
            f"--port must be between 0 and 65535. Received: {port}. Pass 0 for a free one."
        )
    handler = functools.partial(Handler, directory=str(folder))
    try:
        return Server((HOST, port), handler)
    except OSError as error:
        raise OSError(
            f"Port {port} of {HOST} must be free and allowed. Received: "
            f"{error.strerror}. Pass another --port, or 0 for a free one."
        ) from error


class Server(http.server.ThreadingHTTPServer):
    """A thread a request; a browser that hangs up is no error."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files, with what a page needs for WebAssembly, modules and threads."""

    protocol_version = "HTTP/1.1"
    # Not left to the system's own table, which may lack them.
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".css": "text/css",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".svg": "image/svg+xml",
        ".tflite": "application/octet-stream",
        ".wasm": "application/wasm",
    }

    def end_headers(self):
        # Isolation from other sites: browsers give threads to no other page.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # Kept, but asked for each time.
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def send_head(self):
        host = self.headers.get("Host") or ""
        if host.rpartition(":")[0] not in NAMES and host not in NAMES:
            self.send_error(421)  # Another site let its name point here.
            return None
        return super().send_head()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, format, *args):
        pass
