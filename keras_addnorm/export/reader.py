"""A .tflite file's graphs as plain objects, read with bounds that a hostile file cannot exceed."""

import dataclasses
import functools
import mmap
import pathlib

import numpy as np

from keras_addnorm.export.errors import ExportError

# Ops, tensors, indices and hundreds of characters that a file may have in all; encoders have some
# thousands. Offsets may point to one part many times, so a small file can claim any number.
MOST_PARTS = 2_000_000
DTYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2", "INT8": "i1", "UINT8": "u1", "INT32": "<i4"}


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a graph.

    Attributes:
        index: int, its place in the graph.
        name: string, which starts with the path of the layer that made it.
        dtype: string, the schema's name of its type, such as `"FLOAT32"`.
        shape: tuple of ints, -1 where the size is open.
        data: uint8 array of a constant's bytes (a view of the file), or None.
        scales, zero_points: arrays, of one element where one scale is for the whole tensor;
            empty where the tensor is not quantized.
    """

    index: int
    name: str
    dtype: str
    shape: tuple
    data: np.ndarray | None
    scales: np.ndarray
    zero_points: np.ndarray

    @functools.cached_property
    def values(self):
        """A constant's elements, flat, or None where it is no constant or of another type."""
        dtype = DTYPES.get(self.dtype)
        if self.data is None or dtype is None:
            return None
        whole = self.data.size // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize
        return np.frombuffer(self.data[:whole], dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """An operator of a graph.

    Attributes:
        index: int, its place in the graph.
        name: string, the schema's name, or `CUSTOM:name`.
        version: int, of the operator.
        inputs, outputs: tuples of `Tensor`; None where an optional input is left out.
        options: the flatbuffer table of its options, or None.
    """

    index: int
    name: str
    version: int
    inputs: tuple
    outputs: tuple
    options: object


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A subgraph: its tensors, its operators in the order they run, inputs and outputs."""

    tensors: tuple
    operators: tuple
    inputs: tuple
    outputs: tuple

    @functools.cached_property
    def producers(self):
        """The operator that computes a tensor, by the tensor's index."""
        return {tensor.index: op for op in self.operators for tensor in op.outputs}

    @functools.cached_property
    def computed(self):
        """Indices of the operators that depend on the inputs, not on constants alone."""
        fixed, found = {t.index for t in self.tensors if t.data is not None}, set()
        for op in self.operators:
            if op.inputs and all(t is None or t.index in fixed for t in op.inputs):
                fixed.update(tensor.index for tensor in op.outputs)
            else:
                found.add(op.index)
        return found

    @functools.cached_property
    def consumers(self):
        """The operators that read a tensor, by the tensor's index."""
        found = {}
        for op in self.operators:
            for tensor in {t.index: t for t in op.inputs if t is not None}.values():
                found.setdefault(tensor.index, []).append(op)
        return found


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """What is in a .tflite file: its path, size in bytes, graphs, and metadata by name."""

    path: pathlib.Path
    size: int
    graphs: tuple
    metadata: dict


def read_model(path):
    """Reads a .tflite file.

    Raises:
        ExportError: if it is no TFLite model, or a broken or hostile one.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        problem = "is no file" if path.exists() else "does not exist"
        raise ExportError(f"A TFLite model is a file. Received: {path}, which {problem}.")
    with path.open("rb") as file:
        identifier = file.read(8)[4:]
        if identifier != b"TFL3":
            raise ExportError(f"{path} is no TFLite model: its identifier is {identifier!r}.")
        # Mapped, not read: a file may be larger than memory.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _Reader(data).model(path)
    except Exception as error:
        raise ExportError(f"{path} is a broken TFLite model: {error}") from error


def printable(text):
    """A text without characters that could steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _names(enum):
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


class _Reader:
    def __init__(self, data):
        from ai_edge_litert import schema_py_generated as schema

        self._data = data
        self._left = MOST_PARTS
        self._model = schema.Model.GetRootAs(data)
        self._operators = _names(schema.BuiltinOperator)
        self._types = _names(schema.TensorType)
        self._buffers = {}
        self._constant_bytes = 0

    def _spend(self, parts):
        self._left -= parts
        if self._left < 0:
            raise ValueError(f"it claims more than {MOST_PARTS:,} parts")
        return parts

    def model(self, path):
        model = self._model
        if not model.SubgraphsLength():
            raise ValueError("it has no graph")
        codes = [
            self._code(model.OperatorCodes(i))
            for i in range(self._spend(model.OperatorCodesLength()))
        ]
        graphs = tuple(
            self._graph(model.Subgraphs(i), codes)
            for i in range(self._spend(model.SubgraphsLength()))
        )
        entries = [model.Metadata(i) for i in range(self._spend(model.MetadataLength()))]
        metadata = {self._text(e.Name()): self._buffer(e.Buffer()) for e in entries}
        return ModelFile(path, len(self._data), graphs, metadata)

    def _code(self, code):
        custom = code.CustomCode()
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if custom:
            return f"CUSTOM:{self._text(custom)}", code.Version()
        if builtin not in self._operators:
            raise ValueError(f"it has an operator of the unknown number {builtin}")
        return self._operators[builtin], code.Version()

    def _text(self, text):
        self._spend(len(text or b"") // 100)
        return printable((text or b"").decode(errors="replace"))

    def _graph(self, graph, codes):
        tensors = tuple(
            self._tensor(i, graph.Tensors(i)) for i in range(self._spend(graph.TensorsLength()))
        )
        operators = tuple(
            self._operator(i, graph.Operators(i), codes, tensors)
            for i in range(self._spend(graph.OperatorsLength()))
        )
        return Graph(
            tensors,
            operators,
            self._pick(graph.Inputs, graph.InputsLength(), tensors),
            self._pick(graph.Outputs, graph.OutputsLength(), tensors),
        )

    def _pick(self, index, length, tensors):
        """The tensors of a list of indices; -1 stands for an input left out."""
        indices = [index(i) for i in range(self._spend(length))]
        return tuple(None if i == -1 else tensors[_in_range(i, tensors)] for i in indices)

    def _operator(self, index, operator, codes, tensors):
        name, version = codes[_in_range(operator.OpcodeIndex(), codes)]
        inputs = self._pick(operator.Inputs, operator.InputsLength(), tensors)
        outputs = self._pick(operator.Outputs, operator.OutputsLength(), tensors)
        outputs = tuple(tensor for tensor in outputs if tensor is not None)
        return Operator(index, name, version, inputs, outputs, operator.BuiltinOptions())

    def _tensor(self, index, tensor):
        signature = tensor.ShapeSignatureLength()
        size = tensor.ShapeSignature if signature else tensor.Shape
        length = self._spend(signature or tensor.ShapeLength())
        scales = zeros = np.zeros(0)
        quantization = tensor.Quantization()
        if quantization is not None and quantization.ScaleLength():
            self._spend((quantization.ScaleLength() + quantization.ZeroPointLength()) // 10)
            scales = np.asarray(quantization.ScaleAsNumpy())
            zeros = np.asarray(quantization.ZeroPointAsNumpy()).reshape(-1)
        return Tensor(
            index,
            self._text(tensor.Name()),
            self._types[tensor.Type()],
            tuple(size(i) for i in range(length)),
            self._buffer(tensor.Buffer()),
            scales,
            zeros,
        )

    def _buffer(self, index):
        """A buffer's bytes, or None; files beyond 2 GB keep them behind the flatbuffer."""
        if index not in self._buffers:
            buffer = self._model.Buffers(_in_range(index, range(self._model.BuffersLength())))
            start, size, data = buffer.Offset(), buffer.Size(), None
            if buffer.DataLength():
                data = buffer.DataAsNumpy()
            elif start > 1:
                if start + size > len(self._data):
                    raise ValueError(f"buffer {index} ends behind the end of the file")
                data = np.frombuffer(self._data, "u1", size, start)
            self._constant_bytes += 0 if data is None else data.size
            if self._constant_bytes > len(self._data):
                raise ValueError("its constants are larger than the file")
            self._buffers[index] = data
        return self._buffers[index]


def _in_range(index, of):
    """Python would count a negative index from the end."""
    if not 0 <= index < len(of):
        raise ValueError(f"it names part {index} of {len(of)}")
    return index
