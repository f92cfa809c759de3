"""The tables that connect a model's variables with the tensors of a checkpoint, both ways."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Weight:
    """One row of a family's table: where one variable is found in a checkpoint.

    Attributes:
        variable: path of the variable in our model, such as `layer_0_attention/query/kernel`.
        tensor: name in the checkpoint.
        shape: shape of the tensor in the checkpoint.
        axes: order of the tensor's axes in our variable: `(1, 0)` for torch's `Linear`. The axes
            are put into this order first; then the tensor is reshaped to the variable's shape.
        rows: `(start, stop)` on the tensor's first axis, where one tensor holds several variables.
        scale: our variable is the tensor times this.
        skip: rows of zeros that our variable has before those of the tensor.
    """

    variable: str
    tensor: str
    shape: tuple
    axes: tuple | None = None
    rows: tuple | None = None
    scale: float = 1.0
    skip: int = 0

    def to_ours(self, value, shape):
        """The tensor's (rows of) values as a float32 array of our variable's `shape`."""
        value = np.asarray(value, dtype="float32")
        value = value if self.axes is None else value.transpose(self.axes)
        if self.skip:
            value = np.pad(value, [(self.skip, 0), *[(0, 0)] * (value.ndim - 1)])
        value = value.reshape(shape)
        return value if self.scale == 1.0 else value * np.float32(self.scale)

    def to_theirs(self, value):
        """The inverse of `to_ours`."""
        value = np.asarray(value, dtype="float32")[self.skip :]
        if self.scale != 1.0:
            value = value / np.float32(self.scale)
        shape = self.part_shape
        if self.axes is None:
            return value.reshape(shape)
        value = value.reshape([shape[axis] for axis in self.axes])
        return value.transpose(np.argsort(self.axes))

    @property
    def part_shape(self):
        """Shape of what the variable takes of the tensor."""
        if self.rows is None:
            return self.shape
        return (self.rows[1] - self.rows[0], *self.shape[1:])


def dense(variable, tensor, inputs, outputs, bias=True):
    """Rows of a dense layer that is torch's `Linear` in the checkpoint."""
    rows = [Weight(f"{variable}/kernel", f"{tensor}.weight", (outputs, inputs), axes=(1, 0))]
    return rows + [Weight(f"{variable}/bias", f"{tensor}.bias", (outputs,))] * bias


def norm(variable, tensor, size, bias=True):
    """Rows of a layer norm."""
    rows = [Weight(f"{variable}/gamma", f"{tensor}.weight", (size,))]
    return rows + [Weight(f"{variable}/beta", f"{tensor}.bias", (size,))] * bias


def table(variable, tensor, rows, width):
    """The row of an embedding table."""
    return [Weight(variable, tensor, (rows, width))]


def variables_of(model, weights):
    """Pairs of variable and row, for all variables of the model.

    Raises:
        AssertionError: if the table is no exact description of the model: a bug of the family.
    """
    variables = {variable.path: variable for variable in model.weights}
    rows = {row.variable: row for row in weights}
    if variables.keys() != rows.keys() or len(rows) != len(weights):
        raise AssertionError(
            f"The family's table and the model differ: {sorted(variables.keys() ^ rows.keys())}"
        )
    return [(variable, rows[path]) for path, variable in variables.items()]


def load_weights(model, read, weights):
    """Assigns all variables of the model.

    Args:
        model: our model.
        read: `(Weight) -> array`, the row's part of the tensor.
        weights: list of `Weight`.
    """
    for variable, row in variables_of(model, weights):
        variable.assign(row.to_ours(read(row), variable.shape))


def collect_tensors(model, weights):
    """The tensors of a checkpoint, made of the model's variables: dict of float32 arrays."""
    tensors = {}
    for variable, row in variables_of(model, weights):
        value = row.to_theirs(variable.numpy())
        if row.rows is None:
            tensors[row.tensor] = np.ascontiguousarray(value)
        else:
            whole = tensors.setdefault(row.tensor, np.zeros(row.shape, "float32"))
            whole[slice(*row.rows)] = value
    return tensors
