"""What a .tflite file takes, read from its flatbuffer, and inputs to time it with."""

import dataclasses
import pathlib

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.inspect import read_contents

DTYPES = {
    **{"FLOAT32": "float32", "FLOAT16": "float16", "FLOAT64": "float64", "BOOL": "bool"},
    **{"INT64": "int64", "INT32": "int32", "INT16": "int16", "INT8": "int8", "UINT8": "uint8"},
}
# Ops that read rows of a table: positions of the ids and of the table among the op's inputs.
LOOKUPS = {"GATHER": (1, 0), "EMBEDDING_LOOKUP": (0, 1)}


@dataclasses.dataclass(frozen=True)
class Input:
    """One input: its name, shape (None where open), dtype, and rows of the table it indexes."""

    name: str
    shape: tuple
    dtype: str
    rows: int | None

    @property
    def is_integer(self):
        return np.issubdtype(self.dtype, np.integer) or self.dtype == "bool"


@dataclasses.dataclass(frozen=True)
class Signature:
    """One way to call a file.

    Attributes:
        key: the signature's name, or None in a file without signatures.
        inputs: tuple of `Input`.
    """

    key: str | None
    inputs: tuple

    @property
    def is_open(self):
        """Whether some axis behind the batch can be resized."""
        return any(None in spec.shape[1:] for spec in self.inputs)

    @property
    def length(self):
        """The sequence length that is fixed in the file; None where it is open or there is none."""
        ids = [s for s in self.inputs if s.is_integer and len(s.shape) > 1]
        return ids[0].shape[1] if ids else None


def read_signatures(path):
    """All signatures of a .tflite file; one without a key where it has none.

    Raises:
        ExportError: if it is no TFLite model, or has inputs that are neither numbers nor booleans.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not pathlib.Path(path).is_file():
        raise ExportError(f"There is no file {path}. Check the path.")
    read_contents(path)  # Raises if the file is broken.
    model = schema.Model.GetRootAs(pathlib.Path(path).read_bytes())
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    ops = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    found = []
    for i in range(model.SignatureDefsLength()):
        definition = model.SignatureDefs(i)
        graph = model.Subgraphs(definition.SubgraphIndex())
        maps = (definition.Inputs(j) for j in range(definition.InputsLength()))
        tensors = {m.Name().decode(): m.TensorIndex() for m in maps}
        found.append(Signature(definition.SignatureKey().decode(), _inputs(graph, tensors, ops)))
    if not found:
        graph = model.Subgraphs(0)
        tensors = {graph.Tensors(int(i)).Name().decode(): int(i) for i in graph.InputsAsNumpy()}
        found.append(Signature(None, _inputs(graph, tensors, ops)))
    return found


def _inputs(graph, tensors, ops):
    rows = _table_rows(graph, list(tensors.values()), ops)
    return tuple(
        Input(name, _shape(graph.Tensors(index)), _dtype(name, graph, index), rows.get(index))
        for name, index in tensors.items()
    )


def _shape(tensor):
    if tensor.ShapeSignatureLength():
        return tuple(None if size < 0 else int(size) for size in tensor.ShapeSignatureAsNumpy())
    return tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()


def _dtype(name, graph, index):
    from ai_edge_litert import schema_py_generated as schema

    types = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    dtype = types[graph.Tensors(index).Type()]
    if dtype not in DTYPES:
        raise ExportError(
            f"A file can be timed if its inputs are numbers. Received: input {name!r} of dtype "
            f"{dtype.lower()}. Leave the file out."
        )
    return DTYPES[dtype]


def _table_rows(graph, inputs, ops):
    """Rows of the smallest table that each input indexes, by tensor; followed through casts."""
    source, rows = {index: index for index in inputs}, {}
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        name = ops[operator.OpcodeIndex()]
        taken = [int(t) for t in operator.InputsAsNumpy()] if operator.InputsLength() else []
        if name in LOOKUPS:
            ids, table = (taken[position] for position in LOOKUPS[name])
            size = (_shape(graph.Tensors(table)) or (None,))[0]
            if ids in source and size:
                rows[source[ids]] = min(size, rows.get(source[ids], size))
            continue
        origins = [source[t] for t in taken if t in source]
        if not origins or name == "SHAPE":  # What is made of a shape is a position, no id.
            continue
        for j in range(operator.OutputsLength()):
            if _is_index(graph.Tensors(operator.Outputs(j))):
                source[operator.Outputs(j)] = origins[0]
    return rows


def _is_index(tensor):
    from ai_edge_litert import schema_py_generated as schema

    return tensor.Type() in (schema.TensorType.INT32, schema.TensorType.INT64)


def choose(signatures, lengths):
    """What to run at each length: a list of `(length, signature)`.

    A file with an open length runs at every length, one of a single fixed size at its own (None
    where it takes no sequences), and of several fixed signatures the shortest that holds a length.
    """
    for signature in signatures:
        if signature.is_open:
            return [(length, signature) for length in lengths]
    if len(signatures) == 1:
        return [(signatures[0].length, signatures[0])]
    fixed = sorted((s for s in signatures if s.length), key=lambda s: s.length)
    chosen = []
    for length in lengths:
        fitting = [s for s in fixed if s.length >= length]
        chosen += [(length, fitting[0])] if fitting else []
    return chosen


def make_inputs(signature, length, padding=0.0, seed=0):
    """Arrays by input name: random ids in the range of their table, a mask, random floats.

    Args:
        signature: a `Signature`.
        length: int, what open axes are filled with and how much of a longer fixed one is real;
            None where the file takes no sequences.
        padding: share of `length` that the masks leave out, at the end.
        seed: int.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for spec in signature.inputs:
        sizes = [1 if size is None else size for size in spec.shape[:1]]
        sizes += [length if size is None else size for size in spec.shape[1:]]
        arrays[spec.name] = _values(spec, sizes, length, padding, rng).astype(spec.dtype)
    return arrays


def _values(spec, shape, length, padding, rng):
    if spec.rows:
        return rng.integers(0, spec.rows, shape)
    if spec.dtype in ("int8", "uint8"):  # A quantized float.
        bounds = np.iinfo(spec.dtype)
        return rng.integers(bounds.min, bounds.max + 1, shape)
    if spec.is_integer or "mask" in spec.name:
        longest = shape[-1] if shape else 1
        real = max(1, round((1 - padding) * min(length or longest, longest)))
        return np.broadcast_to(np.arange(longest) < real, shape)
    return rng.standard_normal(shape)
