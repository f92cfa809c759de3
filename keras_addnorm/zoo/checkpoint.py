"""Reading safetensors strictly: a table of names and shapes, everything wrong in one error."""

import pathlib

import numpy as np

from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.sources import read_json
from keras_addnorm.zoo.weight import spans

FLOATS = ("F32", "F16", "BF16", "F64")


class Checkpoint:
    """The safetensors files of one folder, read tensor by tensor; never pickles.

    No file stays open or mapped: what is in memory is one tensor at a time.

    Args:
        folder: the checkpoint.
        renames: dict of name endings that older files use, and what they are called today.

    Raises:
        CheckpointError: if there are no safetensors files, the index points out of the folder
            or contradicts the files, a file is broken, or a tensor is there twice.
    """

    def __init__(self, folder, renames):
        self.folder = pathlib.Path(folder)
        self._tensors = {}  # (path, name in the file, dtype, shape) by today's name
        paths, weight_map = self._paths()
        for path in paths:
            for stored, dtype, shape in self._headers(path):
                name = rename(stored, renames)
                if name in self._tensors:
                    raise CheckpointError(self.folder, [f"tensor `{name}` is there twice"])
                self._tensors[name] = (path, stored, dtype, shape)
        if weight_map is not None:
            self._compare(weight_map)

    def _headers(self, path):
        import safetensors

        try:
            with safetensors.safe_open(path, framework="np") as file:
                slices = [(name, file.get_slice(name)) for name in file.keys()]
                return [(name, s.get_dtype(), tuple(s.get_shape())) for name, s in slices]
        except Exception as error:
            raise CheckpointError(
                self.folder, [f"{path.name} is no valid safetensors file: {error}"]
            ) from error

    def _paths(self):
        """The files, and the index's map of tensors to files where there is an index."""
        single = self.folder / "model.safetensors"
        if single.is_file():
            return [single], None
        index = read_json(self.folder, "model.safetensors.index.json")
        if index is None:
            raise CheckpointError(
                self.folder,
                [
                    "there is no model.safetensors; pickled weights (.bin, .pt) are never read: "
                    "save the model again with `save_pretrained(..., safe_serialization=True)`"
                ],
            )
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict):
            raise CheckpointError(self.folder, ["the safetensors index has no weight_map"])
        names = sorted({str(name) for name in weight_map.values()})
        bad = [n for n in names if pathlib.PurePath(n).name != n or not n.endswith(".safetensors")]
        if bad:
            raise CheckpointError(self.folder, [f"the index points out of the folder: {bad}"])
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            raise CheckpointError(self.folder, [f"shards are missing: {missing}"])
        return [self.folder / name for name in names], weight_map

    def _compare(self, weight_map):
        found = {stored: path.name for path, stored, *_ in self._tensors.values()}
        differ = sorted(n for n in found.keys() | weight_map if found.get(n) != weight_map.get(n))
        if differ:
            raise CheckpointError(
                self.folder, [f"the index and the shards differ on tensor `{n}`" for n in differ]
            )

    def __contains__(self, name):
        return name in self._tensors

    def names(self):
        """The names of all tensors."""
        return sorted(self._tensors)

    def header(self, name):
        """(dtype, shape) of a tensor, from the file's header."""
        return self._tensors[name][2:]

    def get(self, name):
        """A tensor as a float32 array, or None where there is none of this name."""
        return self.read(name) if name in self else None

    def read(self, name, rows=None):
        """A tensor, or some `(start, stop)` of its first axis, as a float32 array."""
        import safetensors

        path, stored, *_ = self._tensors[name]
        with safetensors.safe_open(path, framework="np") as file:
            if rows is None:
                return np.asarray(file.get_tensor(stored), dtype="float32")
            return np.asarray(file.get_slice(stored)[slice(*rows)], dtype="float32")

    def pieces(self, name):
        """A tensor as a sequence of float32 arrays that are small."""
        _, shape = self.header(name)
        if not shape:
            yield self.read(name)
        for span in spans(shape) if shape else ():
            yield self.read(name, span)


def rename(name, renames):
    """A tensor's name of today."""
    for old, new in renames.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def find_problems(checkpoint, weights, copies, ignored):
    """Everything that keeps a table from being an exact description of a checkpoint.

    Args:
        checkpoint: a `Checkpoint`.
        weights: list of `Weight`.
        copies: dict of tensors that may be there as a copy of another one (tied weights), and
            the other one.
        ignored: function of a tensor's name; True for what the model has no use for.
    """
    problems = []
    for name, shape in {row.tensor: row.shape for row in weights}.items():
        if name not in checkpoint:
            problems.append(f"tensor `{name}` is missing")
            continue
        dtype, found = checkpoint.header(name)
        if found != shape:
            problems.append(f"tensor `{name}` has shape {found}, the config says {shape}")
        elif dtype not in FLOATS:
            problems.append(f"tensor `{name}` has dtype {dtype}, not one of {FLOATS}")
        elif not all(np.isfinite(piece).all() for piece in checkpoint.pieces(name)):
            problems.append(f"tensor `{name}` holds NaN or infinity")
    used = {row.tensor for row in weights}
    for name in checkpoint.names():
        if name in copies:
            if not _equal(checkpoint, name, copies[name]):
                problems.append(f"tensor `{name}` must be a copy of `{copies[name]}`, and is not")
        elif name not in used and not ignored(name):
            problems.append(f"tensor `{name}` is not understood")
    return problems


def _equal(checkpoint, name, other):
    if other not in checkpoint or checkpoint.header(name) != checkpoint.header(other):
        return False
    pairs = zip(checkpoint.pieces(name), checkpoint.pieces(other), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)
