"""Writing files so that they are whole or not there."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def staging(path):
    """A temporary folder beside `path`; whatever is left in it is removed at the end."""
    folder = pathlib.Path(path).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".keras_addnorm-") as temporary:
        yield pathlib.Path(temporary)


def place(source, target):
    """Moves a finished file or folder to its name, replacing what is there in one step.

    A folder cannot be replaced in one step everywhere: the old one is moved aside first, and
    back again if the new one cannot take its place.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    if source.is_file():
        with open(source, "rb") as file:
            os.fsync(file.fileno())
        os.replace(source, target)
        return
    old = source.with_name(source.name + ".old")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(source, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def refuse_existing(path, overwrite):
    """Raises FileExistsError if `path` exists and must not be replaced."""
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(
            f"{path} exists already and is left as it is. Pass overwrite=True (--overwrite on the "
            "command line) to replace it, or choose another name."
        )


def size_and_digest(path):
    """(bytes, SHA-256 in hex) of a file, or of the files of a folder in the order of names."""
    path = pathlib.Path(path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest, size = hashlib.sha256(), 0
    for file in files:
        with open(file, "rb") as data:
            while block := data.read(2**20):
                digest.update(block)
                size += len(block)
    return size, digest.hexdigest()
