"""Editing a .tflite file: its flatbuffer as objects, and back to bytes."""

import collections

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.runtimes import first_runtime, newest

IDENTIFIER = b"TFL3"
MAX_BYTES = 2**31 - 2**20  # a flatbuffer's offsets are 31 bits
RUNTIME_BYTES = 16  # of the note of the oldest runtime
ALIGNMENT = 16  # bytes, the schema's `force_align` of a buffer's data


class Graph:
    """The first graph of a .tflite file, with what editing it takes.

    Tensors are named by their index, as in the file. Constants are NumPy arrays; int4 ones are
    held as int8 by this class and packed two a byte in the file.

    Attributes:
        schema: the module `ai_edge_litert.schema_py_generated`.
        model: the whole file as `schema.ModelT`.
        operators: list of `schema.OperatorT` in the order they run; edit it in place.
        tensors: list of `schema.TensorT`.

    Args:
        data: bytes of a .tflite file. They must not change while the graph is in use.

    Raises:
        ExportError: if `data` is no TFLite model.
    """

    def __init__(self, data):
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self._op_names = _names(schema.BuiltinOperator)
        self._type_names = _names(schema.TensorType)
        if data[4:8] != IDENTIFIER:
            raise ExportError(f"This is no TFLite model: its identifier is {bytes(data[4:8])!r}.")
        try:
            self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
            graph = self.model.subgraphs[0]
        except Exception as error:
            raise ExportError(f"This is a broken TFLite model: {error}") from error
        self.tensors, self.operators = graph.tensors, graph.operators
        self.inputs, self.outputs = list(graph.inputs), list(graph.outputs)

    # Reading

    def signature_inputs(self):
        """Dict of the inputs' tensors by the names that the file's first signature gives them."""
        return self._signature("inputs")

    def signature_outputs(self):
        """Dict of the outputs' tensors by the names that the file's first signature gives them."""
        return self._signature("outputs")

    def _signature(self, side):
        maps = getattr(self.model.signatureDefs[0], side) if self.model.signatureDefs else ()
        return {entry.name.decode(): int(entry.tensorIndex) for entry in maps}

    def name(self, operator):
        """An operator's built-in name, such as "FULLY_CONNECTED"."""
        return self._code_name(self.model.operatorCodes[operator.opcodeIndex])

    def _code_name(self, code):
        return self._op_names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def find(self, *names):
        """List of the operators of these names, in the order they run."""
        return [operator for operator in self.operators if self.name(operator) in names]

    def dtype(self, tensor):
        """A tensor's type as the schema names it, such as "FLOAT32" or "INT4"."""
        return self._type_names[self.tensors[tensor].type]

    def shape(self, tensor):
        """A tensor's shape as a tuple of ints, None where it is open."""
        tensor = self.tensors[tensor]
        signature = tensor.shapeSignature
        sizes = tensor.shape if signature is None or not len(signature) else signature
        sizes = () if sizes is None else sizes
        return tuple(None if size < 0 else int(size) for size in sizes)

    def is_constant(self, tensor):
        """Whether a tensor's values are in the file. Optional inputs (-1) are not constants."""
        return tensor >= 0 and self._data(tensor) is not None

    def constant(self, tensor):
        """A constant's values as an array of its shape (int4 as int8); None if it is computed."""
        if not self.is_constant(tensor):
            return None
        data, dtype = self._data(tensor), self.dtype(tensor)
        shape = tuple(self.tensors[tensor].shape if self.tensors[tensor].shape is not None else ())
        if dtype == "INT4":
            return unpack_int4(data, int(np.prod(shape))).reshape(shape)
        return np.frombuffer(data, dtype.lower()).reshape(shape)

    def consumers(self, tensor):
        """List of the operators that read a tensor."""
        return [operator for operator in self.operators if tensor in operator.inputs]

    def producer(self, tensor):
        """The operator that computes a tensor; None for inputs and constants."""
        return next((op for op in self.operators if tensor in op.outputs), None)

    def _data(self, tensor):
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return data if data is not None and len(data) else None

    # Editing

    def add_tensor(self, name, shape, dtype):
        """Adds a computed tensor and returns its index.

        Args:
            name: str.
            shape: tuple of ints, None where it is open.
            dtype: as the schema names it.
        """
        tensor = self.schema.TensorT()
        tensor.name = name.encode() if isinstance(name, str) else name
        tensor.shape = np.array([1 if size is None else size for size in shape], "int32")
        if None in shape:
            tensor.shapeSignature = np.array([-1 if s is None else s for s in shape], "int32")
        tensor.hasRank = True
        tensor.type = getattr(self.schema.TensorType, dtype)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add_constant(self, name, values, dtype=None):
        """Adds a constant and returns its tensor's index; `dtype` as in `set_constant`."""
        dtype = dtype or values.dtype.name.upper()
        index = self.add_tensor(name, values.shape, dtype)
        self.set_constant(index, values, dtype)
        return index

    def set_constant(self, tensor, values, dtype=None, scales=None, axis=0):
        """Gives a tensor new values in a buffer of its own, and drops its old quantization.

        Args:
            tensor: index.
            values: array.
            dtype: as the schema names it; None for the array's own. "INT4" packs an int8 array
                of values from -8 to 7.
            scales: float32 array `(values.shape[axis],)` or `(1,)`: what one step of the integers
                is worth; the zero point is 0. None for values that are not quantized.
            axis: int, the axis that the scales belong to.
        """
        dtype = dtype or values.dtype.name.upper()
        data = pack_int4(values) if dtype == "INT4" else np.ascontiguousarray(values)
        buffer = self.schema.BufferT()
        buffer.data = data.reshape(-1).view("uint8")
        self.model.buffers.append(buffer)
        target = self.tensors[tensor]
        target.buffer = len(self.model.buffers) - 1
        target.type = getattr(self.schema.TensorType, dtype)
        target.shape, target.shapeSignature = np.array(values.shape, "int32"), None
        target.quantization = None if scales is None else self.quantization(scales, 0, axis)

    def quantization(self, scales, zero_points, axis=0):
        """`schema.QuantizationParametersT` of real = scale * (integer - zero point)."""
        scales = np.atleast_1d(np.asarray(scales, "float32"))
        result = self.schema.QuantizationParametersT()
        result.scale = scales
        result.zeroPoint = np.broadcast_to(np.asarray(zero_points, "int64"), scales.shape).copy()
        result.quantizedDimension = axis
        return result

    def set_blocks(self, tensor, scales):
        """Makes a constant int4 matrix blockwise: each run of a row's columns has its own scale.

        Args:
            tensor: index of a constant `(rows, columns)`.
            scales: float16 array `(rows, columns / block)`.
        """
        constant = self.tensors[tensor]
        details = self.schema.BlockwiseQuantizationT()
        details.scales = self.add_constant(constant.name + b"_scales", scales.astype("float16"))
        details.zeroPoints = -1  # none
        details.blockSize = int(constant.shape[1]) // scales.shape[1]
        constant.quantization = self.schema.QuantizationParametersT()
        constant.quantization.detailsType = self.schema.QuantizationDetails.BlockwiseQuantization
        constant.quantization.details = details

    def opcode(self, name, version=1):
        """Index of a built-in's operator code of a version, added where the file has none."""
        builtin = getattr(self.schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
                if code.version == version and not code.customCode:
                    return index
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.version = builtin, version
        code.deprecatedBuiltinCode = min(builtin, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def raise_version(self, operator, version):
        """Sets an operator's version where it is below `version`."""
        if self.model.operatorCodes[operator.opcodeIndex].version < version:
            operator.opcodeIndex = self.opcode(self.name(operator), version)

    def make_operator(self, name, inputs, outputs, version=1, **options):
        """Makes an operator, to be put into `operators`.

        Args:
            name: of the built-in.
            inputs, outputs: lists of tensor indices.
            version: of the built-in.
            **options: attributes of its options' object, such as `axis=0`; none for a built-in
                whose options are all at their defaults.
        """
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self.opcode(name, version)
        operator.inputs, operator.outputs = np.array(inputs, "int32"), np.array(outputs, "int32")
        if options:
            kind = "".join(word.capitalize() for word in name.split("_")) + "Options"
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(self.schema, kind + "T")(**options)
        return operator

    def replace(self, operator, *new):
        """Puts operators in the place of another one; with itself among `new`, around it."""
        index = next(i for i, other in enumerate(self.operators) if other is operator)
        self.operators[index : index + 1] = new

    def substitute(self, tensor, other, operators=None):
        """Makes operators, by default all, read tensor `other` where they read `tensor`."""
        for operator in self.operators if operators is None else operators:
            inputs = np.asarray(operator.inputs)
            operator.inputs = np.where(inputs == tensor, other, inputs).astype("int32")

    # Writing

    def to_bytes(self):
        """The file as bytes, without the data that no tensor uses any more, and with a note of the
        oldest runtime that is true of it as it is.

        Raises:
            ExportError: if it is too large for a flatbuffer.
        """
        self._note_runtime()
        self._drop_unused_data()
        used = sum(len(b.data) for b in self.model.buffers if b.data is not None)
        if used > MAX_BYTES:
            raise ExportError(
                f"A .tflite file holds at most {MAX_BYTES} bytes of weights. Received: {used}. "
                "Export a smaller model."
            )
        buffers = self.model.buffers
        self.model.buffers = [_AlignedBuffer(buffer) for buffer in buffers]
        try:
            builder = _make_builder(used + 2**20)
            builder.Finish(self.model.Pack(builder), IDENTIFIER)
        finally:
            self.model.buffers = buffers
        return bytes(builder.Output())

    def set_metadata(self, name, data):
        """Sets a named entry of the file's metadata; data of None removes it.

        Args:
            name: string.
            data: bytes, or None.
        """
        entries = [x for x in self.model.metadata or () if x.name != name.encode()]
        if data is not None:
            entry, buffer = self.schema.MetadataT(), self.schema.BufferT()
            entry.name, entry.buffer = name.encode(), len(self.model.buffers)
            buffer.data = np.frombuffer(data, "uint8")
            self.model.buffers.append(buffer)
            entries.append(entry)
        self.model.metadata = entries

    def _note_runtime(self):
        """Notes the oldest runtime with all operators; none where an operator is newer than all."""
        codes = self.model.operatorCodes
        used = (codes[op.opcodeIndex] for g in self.model.subgraphs for op in g.operators)
        operators = {(self._code_name(code), code.version) for code in used}
        runtimes = [first_runtime(*operator) for operator in operators]
        noted = None if None in runtimes else newest(runtimes)
        if noted is not None:  # as converters write it: three numbers, zeros behind them
            noted += ".0" * (2 - noted.count("."))
            noted = noted.encode().ljust(RUNTIME_BYTES, b"\0")
        self.set_metadata("min_runtime_version", noted)

    def _drop_unused_data(self):
        used = {metadata.buffer for metadata in self.model.metadata or ()}
        for graph in self.model.subgraphs:
            read = {int(i) for lists in _tensor_lists(graph) for i in lists}
            details = (q.details for t in graph.tensors if (q := t.quantization) and q.details)
            read |= {getattr(d, name, -1) for d in details for name in ("scales", "zeroPoints")}
            for index, tensor in enumerate(graph.tensors):
                if index not in read:
                    tensor.buffer = 0  # by the format's rule the empty one
                used.add(tensor.buffer)
        for index, buffer in enumerate(self.model.buffers):
            if index not in used:
                buffer.data = None


def _tensor_lists(graph):
    yield from (graph.inputs, graph.outputs)
    for operator in graph.operators:
        for part in (operator.inputs, operator.outputs, operator.intermediates):
            yield () if part is None else part


class _AlignedBuffer:
    """Packs a `schema.BufferT` at `ALIGNMENT`, which its own `Pack` does not keep."""

    def __init__(self, buffer):
        self._buffer = buffer

    def Pack(self, builder):  # noqa: N802 (the schema's name)
        from ai_edge_litert import schema_py_generated as schema

        data = self._buffer.data
        if data is not None:
            payload = np.ascontiguousarray(data, "uint8")
            builder.StartVector(1, len(payload), ALIGNMENT)
            builder.head -= len(payload)
            builder.Bytes[builder.head : builder.head + len(payload)] = payload.data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def _make_builder(size):
    import flatbuffers

    class Builder(flatbuffers.Builder):
        """Writes equal vectors once: thousands of zero points, of shapes."""

        def __init__(self, size):
            super().__init__(size)
            self._written = {}

        def CreateNumpyVector(self, x):  # noqa: N802 (flatbuffers' name)
            key = x.dtype.str, x.tobytes()
            if key not in self._written:
                self._written[key] = super().CreateNumpyVector(x)
            return self._written[key]

    return Builder(size)


def _names(enum):
    names = {value: name for name, value in vars(enum).items() if not name.startswith("_")}
    return collections.defaultdict(lambda: "UNKNOWN", names)


def pack_int4(values):
    """Packs int8 values from -8 to 7 two a byte, the first in the low half."""
    flat = np.asarray(values, "int8").reshape(-1)
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    low, high = flat[0::2].view("uint8"), flat[1::2].view("uint8")
    return (low & 0x0F) | (high << 4)


def unpack_int4(data, size):
    """The first `size` int8 values of what `pack_int4` returned."""
    data = np.asarray(data, "uint8")
    pairs = np.stack([(data << 4).view("int8") >> 4, data.view("int8") >> 4], axis=-1)
    return pairs.reshape(-1)[:size]
