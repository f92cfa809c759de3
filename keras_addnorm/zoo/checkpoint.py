"""Reading safetensors strictly: a table of names and shapes, everything wrong in one error."""

import dataclasses
import pathlib

import numpy as np

from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.sources import read_json

FLOATS = ("F32", "F16", "BF16", "F64")


@dataclasses.dataclass(frozen=True)
class Weight:
    """One row of a family's table.

    Attributes:
        variable: path of the variable in our encoder, such as `layer_0_attention/query/kernel`.
        tensor: name in the checkpoint.
        shape: shape in the checkpoint.
        transpose: whether the checkpoint stores the transpose (torch's `Linear`).
    """

    variable: str
    tensor: str
    shape: tuple
    transpose: bool = False


class Checkpoint:
    """The safetensors files of one folder, opened lazily; never pickles.

    Args:
        folder: the checkpoint.
        renames: dict of name endings that older files use, and what they are called today.

    Raises:
        CheckpointError: if there are no safetensors files, the index points out of the folder,
            a file is broken, or a tensor is there twice.
    """

    def __init__(self, folder, renames):
        import safetensors

        self.folder = pathlib.Path(folder)
        self._tensors = {}  # (file, name in the file) by today's name
        for path in self._paths():
            try:
                file = safetensors.safe_open(path, framework="np")
            except Exception as error:
                raise CheckpointError(
                    self.folder, [f"{path.name} is no valid safetensors file: {error}"]
                ) from error
            for stored in file.keys():
                name = _rename(stored, renames)
                if name in self._tensors:
                    raise CheckpointError(self.folder, [f"tensor `{name}` is there twice"])
                self._tensors[name] = (file, stored)

    def _paths(self):
        single = self.folder / "model.safetensors"
        if single.is_file():
            return [single]
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
        return [self.folder / name for name in names]

    def __contains__(self, name):
        return name in self._tensors

    def names(self):
        """The names of all tensors."""
        return sorted(self._tensors)

    def header(self, name):
        """(dtype, shape) of a tensor, from the file's header."""
        file, stored = self._tensors[name]
        entry = file.get_slice(stored)
        return entry.get_dtype(), tuple(entry.get_shape())

    def read(self, weight):
        """The tensor of a table's row as a float32 array in our layout."""
        file, stored = self._tensors[weight.tensor]
        value = np.asarray(file.get_tensor(stored), dtype="float32")
        return value.T if weight.transpose else value


def _rename(name, renames):
    for old, new in renames.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def find_problems(checkpoint, table, ignored):
    """Everything that keeps `table` from being an exact description of `checkpoint`.

    Args:
        checkpoint: a `Checkpoint`.
        table: list of `Weight`.
        ignored: function of a tensor's name; True for what an encoder has no use for.
    """
    problems = []
    for row in table:
        if row.tensor not in checkpoint:
            problems.append(f"tensor `{row.tensor}` is missing")
            continue
        dtype, shape = checkpoint.header(row.tensor)
        if shape != row.shape:
            problems.append(f"tensor `{row.tensor}` has shape {shape}, the config says {row.shape}")
        elif dtype not in FLOATS:
            problems.append(f"tensor `{row.tensor}` has dtype {dtype}, not one of {FLOATS}")
        elif not np.isfinite(checkpoint.read(row)).all():
            problems.append(f"tensor `{row.tensor}` holds NaN or infinity")
    used = {row.tensor for row in table}
    for name in checkpoint.names():
        if name not in used and not ignored(name):
            problems.append(f"tensor `{name}` is not understood")
    return problems


def load_weights(model, checkpoint, table):
    """Assigns every row of `table`, which must cover the variables of `model` exactly."""
    variables = {variable.path: variable for variable in model.weights}
    rows = {row.variable: row for row in table}
    if variables.keys() != rows.keys():
        raise AssertionError(
            f"The family's table and the encoder differ: {variables.keys() ^ rows.keys()}"
        )
    for path, variable in variables.items():
        variable.assign(checkpoint.read(rows[path]))
