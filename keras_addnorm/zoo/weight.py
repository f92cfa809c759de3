"""The tables that connect a model's variables with the tensors of a checkpoint, both ways."""

import dataclasses

import keras
import numpy as np

MAX_PIECE_BYTES = 2**22


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
        skip: rows of zeros that our variable has before those of the tensor.
        into: `(start, stop)` on our variable's first axis, where it holds several tensors.
        added: whether the tensor is the sum of our variable, which is then loaded as zeros, and of
            one that another row has for the same tensor.
    """

    variable: str
    tensor: str
    shape: tuple
    axes: tuple | None = None
    rows: tuple | None = None
    skip: int = 0
    into: tuple | None = None
    added: bool = False

    def to_ours(self, value, shape):
        """(Rows of) the tensor as a float32 array of `shape`, that of our variable('s part)."""
        if self.into is not None:
            shape = (self.into[1] - self.into[0], *shape[1:])
        value = np.asarray(value, dtype="float32")
        value = value if self.axes is None else value.transpose(self.axes)
        if self.skip:
            value = np.pad(value, [(self.skip, 0), *[(0, 0)] * (value.ndim - 1)])
        return value.reshape(shape)

    def to_theirs(self, value):
        """The inverse of `to_ours`: what the tensor is of the whole variable."""
        value = np.asarray(value, dtype="float32")
        value = value[self.skip :] if self.into is None else value[slice(*self.into)]
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


def dense(variable, tensor, inputs, outputs, bias=True, part=None):
    """Rows of a dense layer that is torch's `Linear` in the checkpoint.

    Args:
        variable, tensor: names of the layer, ours and theirs.
        inputs, outputs: its features.
        bias: whether it has a bias.
        part: `(start, size)`, where it is the outputs from `start` on of a `Linear` of `size`
            outputs that several layers share.
    """
    start, size = part or (0, outputs)
    rows = (start, start + outputs) if part else None
    weights = [
        Weight(f"{variable}/kernel", f"{tensor}.weight", (size, inputs), axes=(1, 0), rows=rows)
    ]
    return weights + [Weight(f"{variable}/bias", f"{tensor}.bias", (size,), rows=rows)] * bias


def norm(variable, tensor, size, bias=True):
    """Rows of a layer norm."""
    rows = [Weight(f"{variable}/gamma", f"{tensor}.weight", (size,))]
    return rows + [Weight(f"{variable}/beta", f"{tensor}.bias", (size,))] * bias


def table(variable, tensor, rows, width):
    """The row of an embedding table."""
    return [Weight(variable, tensor, (rows, width))]


def pre_norms(config):
    """Our variables of a pre-norm encoder's norms.

    Returns:
        Pairs (before attention, before feed-forward), one for each block, and the final one.
    """
    joints = [
        f"layer_{i}_{part}_add_norm/norm"
        for i in range(config["num_layers"])
        for part in ("attention", "feed_forward")
    ]
    before = ["first_norm", *joints]
    return list(zip(before[:-1:2], before[1::2], strict=True)), before[-1]


def variables_of(model, weights):
    """Pairs of variable and its rows (one, or all its parts in order), for all variables.

    Raises:
        AssertionError: if the table is no exact description of the model: a bug of the family.
    """
    rows = {}
    for row in weights:
        rows.setdefault(row.variable, []).append(row)
    variables = {variable.path: variable for variable in model.weights}
    wrong = variables.keys() ^ rows.keys()
    wrong |= {path for path in variables.keys() & rows if not _whole(variables[path], rows[path])}
    if wrong:
        raise AssertionError(f"The family's table and the model differ: {sorted(wrong)}")
    return [(variable, rows[path]) for path, variable in variables.items()]


def _whole(variable, rows):
    """Whether the rows are the whole variable, once."""
    if len(rows) == 1 and rows[0].into is None:
        return True
    ends = [0, *(row.into[1] for row in rows)]
    return [row.into[0] for row in rows] == ends[:-1] and ends[-1] == variable.shape[0]


def load_weights(model, read, weights):
    """Assigns all variables of the model.

    Args:
        model: our model.
        read: `(tensor, rows) -> array`, some `(start, stop)` of the tensor's first axis, or, with
            None, all.
        weights: list of `Weight`.
    """
    for variable, rows in variables_of(model, weights):
        if rows[0].added:
            variable.assign(np.zeros(variable.shape, "float32"))
        elif _is_in_place(variable, rows[0]):
            _assign_in_place(variable, rows[0], read)
        else:
            parts = [row.to_ours(read(row.tensor, row.rows), variable.shape) for row in rows]
            variable.assign(parts[0] if len(parts) == 1 else np.concatenate(parts))


def _is_in_place(variable, row):
    """Whether rows of the tensor are rows of the variable, which may be changed one by one."""
    same_rows = row.axes is None and row.part_shape[:1] == variable.shape[:1]
    return same_rows and keras.backend.backend() == "tensorflow"


def _assign_in_place(variable, row, read):
    """Assigns a piece at a time: a table of embeddings may be most of the checkpoint."""
    import tensorflow as tf

    first = row.rows[0] if row.rows else 0
    pieces = spans(row.part_shape)
    for start, stop in pieces:
        values = read(row.tensor, (first + start, first + stop))
        values = row.to_ours(values, (stop - start, *variable.shape[1:]))
        if len(pieces) == 1:
            variable.assign(values)
        else:
            # Not `value[start:stop].assign`, which reads, and so copies, the whole table.
            values = tf.cast(values, variable.dtype)
            variable.value.scatter_update(tf.IndexedSlices(values, tf.range(start, stop)))


def spans(shape):
    """Pairs `(start, stop)` that cut the first axis of a float32 tensor into pieces."""
    row = 4 * int(np.prod(shape[1:], dtype="int64"))
    step = max(1, MAX_PIECE_BYTES // max(row, 1))
    length = shape[0] if shape else 1
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def collect_tensors(model, weights):
    """The tensors of a checkpoint, made of the model's variables: dict of float32 arrays."""
    tensors, added = {}, []
    for variable, rows in variables_of(model, weights):
        ours = variable.numpy()
        for row in rows:
            value = row.to_theirs(ours)
            if row.added:
                added.append((row.tensor, value))
            elif row.rows is None:
                tensors[row.tensor] = np.ascontiguousarray(value)
            else:
                whole = tensors.setdefault(row.tensor, np.zeros(row.shape, "float32"))
                whole[slice(*row.rows)] = value
    for name, value in added:
        tensors[name] = tensors[name] + value
    return tensors
