"""Sentence search in the browser: the page of examples/web with a model, served on this machine."""

import functools
import http.server
import json
import pathlib
import shlex
import shutil

from keras_addnorm import files
from keras_addnorm.export import to_text_bundle
from keras_addnorm.zoo import load

HOST = "127.0.0.1"
SOURCE, LICENSE = "minilm", "Apache-2.0"
LENGTHS = (16, 64, 128)  # LiteRT.js cannot resize inputs.
MAX_MANIFEST = 2**20  # bytes

PAGE = pathlib.Path(__file__).with_name("web")  # in a clone a link to examples/web
SUFFIXES = (".html", ".css", ".js", ".json", ".svg")
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


def is_whole(bundle):
    """Whether a folder is a bundle for the page, with the very files that its manifest names."""
    try:
        with open(bundle / "manifest.json", "rb") as file:
            manifest = json.loads(file.read(MAX_MANIFEST))
        lengths = [signature["length"] for signature in manifest["model"]["signatures"]]
        if sorted(lengths) != sorted(LENGTHS) or manifest["task"] != "embed":
            return False
        return all(_is_right(bundle, *item) for item in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_right(bundle, name, entry):
    path = bundle / name
    if pathlib.Path(name).name != name or path.stat().st_size != entry["bytes"]:
        return False
    return files.size_and_digest(path) == (entry["bytes"], entry["sha256"])


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
            f"Port {port} of {HOST} is to be had by one program only. Received: "
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

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, format, *args):
        pass
