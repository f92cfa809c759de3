"""Writing files so that they are whole or not there."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def staging(path):
    """A temporary folder beside `path`; whatever is left in it is removed at the end.

    Beside the name, not beside what a link of that name points to: moving must stay in one folder.
    """
    folder = pathlib.Path(path).parent.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".keras_addnorm-") as temporary:
        yield pathlib.Path(temporary)


def place_all(moves):
    """Moves finished files and folders to their names: all of them, or, on an error, none.

    Args:
        moves: list of `(source, target)`; a source of None removes the target. All sources lie
            in one staging folder, where the old targets wait until everything is in place.
    """
    done = []
    try:
        for index, (source, target) in enumerate(moves):
            old = moves[0][0].with_name(f"old-{index}")
            if os.path.lexists(target):
                _set_aside(target, old, keep=source is not None and source.is_file())
            done.append((old, target))
            if source is not None:
                _sync(source)
                os.replace(source, target)
    except BaseException:
        for old, target in reversed(done):
            with contextlib.suppress(OSError):  # One that cannot be put back hinders no other.
                _remove(target)
                if os.path.lexists(old):
                    os.rename(old, target)
        raise


def _set_aside(target, old, keep):
    """Moves `target` to `old`; with `keep` only a second name, so that it is never missing."""
    if keep and target.is_file() and not target.is_symlink():
        with contextlib.suppress(OSError):
            os.link(target, old)
            return
    os.rename(target, old)


def _sync(source):
    for file in [source] if source.is_file() else filter(pathlib.Path.is_file, source.rglob("*")):
        with open(file, "rb") as data:
            os.fsync(data.fileno())


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_existing(paths, overwrite, marker="saved_model.pb"):
    """Raises if one of `paths` must not be replaced: the model first, then what lies beside it.

    Args:
        paths: where things are going to be written.
        overwrite: whether files, and a model's folder, may be replaced.
        marker: the file that every folder of such a model holds.

    Raises:
        ValueError: if the model's path has no name.
        FileExistsError: if one exists and `overwrite` is False, or is a folder without `marker`:
            those are never replaced.
    """
    model = pathlib.Path(paths[0])
    if model.name in ("", ".."):
        raise ValueError(f"`path` must end in a name for the model. Received: path={str(model)!r}.")
    for path in map(pathlib.Path, paths):
        if not os.path.lexists(path):
            continue
        if not overwrite:
            raise FileExistsError(
                f"{path} exists already and is left as it is. Pass overwrite=True (--overwrite on "
                "the command line) to replace it, or choose another name."
            )
        replaceable = path == model and (path / marker).is_file()
        if path.is_dir() and any(path.iterdir()) and not replaceable:
            raise FileExistsError(
                f"{path} is a folder that holds no {marker}; overwriting it would delete what "
                "is in it. Choose another name."
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
