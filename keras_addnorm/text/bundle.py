"""Reading a text bundle: nothing of it is used before its size and its digest were checked.

A bundle may come from anywhere. Files are opened only by plain names inside the folder, sizes are
bounded before anything is read, and what is run is the very bytes that were hashed.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import stat

from keras_addnorm.text.errors import BundleError
from keras_addnorm.text.fields import BROKEN, Fields

FORMAT, VERSION, MANIFEST = "keras_addnorm text bundle", 1, "manifest.json"
VECTORS = "tokenization.json"
MAX_MANIFEST_BYTES = 2**20
# The most of each file that is read into memory.
MAX_MODEL_BYTES, MAX_TOKENIZER_BYTES, MAX_TEXT_BYTES = 2**31, 2**28, 2**26
MAX_LENGTH = 2**20  # tokens


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest makes sense.

    Attributes:
        folder: `pathlib.Path`.
        task: `"embed"` or `"classify"`.
        manifest: `Fields` of the manifest.
        files: dict of `(bytes, SHA-256 in hex)` by name.
    """

    folder: pathlib.Path
    task: str
    manifest: Fields
    files: dict

    def read(self, name, limit=MAX_TEXT_BYTES):
        """The bytes of a file, if they are those that the manifest describes.

        Raises:
            BundleError: if not, or if there are more than `limit`.
        """
        if name not in self.files:
            raise BundleError(f"{self.folder}: {MANIFEST} lists no file {name!r}. {BROKEN}")
        size, digest = self.files[name]
        data = _read_file(self.folder / name, min(size, limit))
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise BundleError(
                f"{self.folder / name} is not the file that {MANIFEST} describes. {BROKEN}"
            )
        return data

    def read_json(self, name):
        """A JSON file as `Fields`; see `read`."""
        return _parse(self.folder / name, self.read(name))

    def read_lines(self, name):
        """The lines of a text file; see `read`."""
        try:
            return self.read(name).decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise BundleError(f"{self.folder / name} is not UTF-8: {error}. {BROKEN}") from error


def open_bundle(folder, task):
    """Reads the manifest of a bundle.

    Args:
        folder: path of the bundle.
        task: `"embed"` or `"classify"`, what the bundle must be for.

    Returns:
        A `Bundle`.

    Raises:
        BundleError: if the folder is no such bundle.
    """
    folder = pathlib.Path(folder)
    path = folder / MANIFEST
    if not path.exists():
        what = f"holds no {MANIFEST}" if folder.is_dir() else "is no folder"
        raise BundleError(
            "A text bundle is a folder that keras_addnorm.export.to_text_bundle (`keras-addnorm "
            f"bundle`) made. Received: {folder}, which {what}. Check the path."
        )
    fields = _parse(path, _read_file(path, MAX_MANIFEST_BYTES))
    if fields.get("format", str) != FORMAT:
        raise BundleError(f"{path} describes no {FORMAT}. Make one with `keras-addnorm bundle`.")
    version = fields.get("version", int)
    if version != VERSION:
        raise BundleError(
            f"{folder} is a bundle of version {version}; this keras_addnorm reads version "
            f"{VERSION}. Install the keras_addnorm that made it, or make it again."
        )
    found = fields.get("task", str)
    if found != task:
        raise BundleError(
            f"{folder} is a bundle for the task {found!r}, not {task!r}. "
            "Use keras_addnorm.text.Embedder for 'embed', Classifier for 'classify'."
        )
    files = fields.section("files")
    return Bundle(folder, task, fields, {name: _entry(files, name) for name in files.names()})


def _entry(files, name):
    # Of Windows too: "a\\b" and "C:x" are no plain names there.
    plain = pathlib.PureWindowsPath(name).name == name and pathlib.PurePosixPath(name).name == name
    if not plain or name in ("", ".", "..") or not name.isprintable():
        raise files.error(f"names a file outside the bundle: {name!r}")
    entry = files.section(name)
    return entry.whole("bytes", 0, MAX_MODEL_BYTES), entry.get("sha256", str)


def _read_file(path, limit):
    """The bytes of a regular file; BundleError if there are more than `limit`, or none."""
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path} is no regular file. {BROKEN}")
            if status.st_size > limit:
                raise BundleError(
                    f"{path} has {status.st_size} bytes, more than the {limit} that it may have. "
                    f"{BROKEN}"
                )
            return _read_exactly(file, status.st_size)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. {BROKEN}") from error


def _open(path, flags):
    """Opens without waiting, as a pipe would make it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_exactly(file, size):
    """At most `size` bytes: one read returns up to 2 GiB, so there may be more than one."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse(path, data):
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no JSON: {error}. {BROKEN}") from error
    return Fields(path, "", value)
