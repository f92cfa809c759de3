"""Operators in integers with ranges that are fixed when a file is written.

Recipes choose which operators, and how wide; this module rounds the tensors between them. Its
rounding is that of https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

import numpy as np

from keras_addnorm.export.quantize.weights import SMALLEST_SCALE, quantize_rows

# What these operators return is rounded like what they read.
MOVES = ("RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE", "STRIDED_SLICE", "GATHER")
# The kernels know but these results: (scale, zero point) of int8.
FIXED = {
    "SOFTMAX": (1 / 256, -128),
    "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
}
# The versions of operators in int8 and int16.
VERSIONS = {
    "ADD": (2, 3),
    "BATCH_MATMUL": (2, 3),
    "CONV_2D": (3, 4),
    "FULLY_CONNECTED": (4, 11),
    "GATHER": (2, 4),
    "GELU": (2, 2),
    "L2_NORMALIZATION": (2, 2),
    "LOGISTIC": (2, 3),
    "MEAN": (2, 3),
    "MUL": (2, 4),
    "RSQRT": (2, 3),
    "SOFTMAX": (2, 3),
    "STRIDED_SLICE": (2, 4),
    "SUB": (2, 5),
    "SUM": (2, 3),
    "TANH": (2, 3),
    "TRANSPOSE": (2, 5),
}
# GELU(x) is within 2e-4 of 0 below: a range need not reach further down.
GELU_FLOOR = -4.0
TYPES = {"INT8": (-128, 127), "INT16": (-32768, 32767)}


def quantize_operators(graph, selected, ranges, wide=(), float_gelu=False):
    """Makes operators compute in integers, with roundings at the borders to those that do not.

    Args:
        graph: a float32 `Graph`; edited in place.
        selected: its operators to make integer ones, of the names in `VERSIONS` and `MOVES`.
        ranges: dict of (smallest, largest) by tensor: of all that `selected` read and return.
        wide: those of `selected` that compute in int16; the others do in int8.
        float_gelu: bool, whether GELU stays a float operator between two roundings, which
            XNNPACK turns into one table of 256 results; it does not know GELU in int8.
    """
    _Static(graph, selected, ranges, wide, float_gelu).run()


def tensors_between(graph, selected):
    """The float32 tensors that operators read and return: what `ranges` must hold."""
    used = {int(t) for op in selected for t in (*op.inputs, *op.outputs) if t >= 0}
    return sorted(t for t in used if graph.dtype(t) == "FLOAT32" and not graph.is_constant(t))


class _Static:
    def __init__(self, graph, selected, ranges, wide, float_gelu):
        self.graph, self.ranges, self.float_gelu = graph, ranges, float_gelu
        self.selected, self.wide = ({id(op) for op in ops} for ops in (selected, wide))
        self.producers = {int(t): op for op in graph.operators for t in op.outputs}
        self.symmetric = self._right_hand_sides()
        self.integers = {}  # the integer form of a float tensor, by (tensor, dtype)
        self.made = []

    def run(self):
        graph = self.graph
        in_float = {
            int(t) for op in graph.operators if id(op) not in self.selected for t in op.inputs
        }
        in_float |= set(map(int, graph.outputs))
        for operator in list(graph.operators):
            if id(operator) not in self.selected:
                self.made.append(operator)
                continue
            output = int(operator.outputs[0])
            self._convert(operator, output)
            if output in in_float:
                self._dequantize(output)
        graph.operators[:] = self.made

    def _right_hand_sides(self):
        """Tensors that reach the second input of a product, whose zero point XNNPACK wants at 0."""
        found = set()
        for operator in self.graph.find("BATCH_MATMUL"):
            tensor = int(operator.inputs[1])
            found.add(tensor)
            while tensor in self.producers:
                producer = self.producers[tensor]
                if self.graph.name(producer) not in MOVES or id(producer) not in self.selected:
                    break
                tensor = int(producer.inputs[0])
                found.add(tensor)
        return found

    def _convert(self, operator, output):
        graph, name = self.graph, self.graph.name(operator)
        dtype = "INT16" if id(operator) in self.wide else "INT8"
        if name == "GELU" and self.float_gelu:
            return self._gelu_in_float(operator, output)
        if name in ("CONV_2D", "FULLY_CONNECTED"):
            inputs = self._matrix_inputs(operator)
        else:
            count = 1 if name in (*MOVES, "MEAN", "SUM") else len(operator.inputs)
            first = [self._integer(int(t), dtype) for t in operator.inputs[:count]]
            inputs = [*first, *map(int, operator.inputs[count:])]
        if name in MOVES or name in FIXED and dtype == "INT8":
            rounding = self._rounding_of(inputs[0]) if name in MOVES else FIXED[name]
        else:
            rounding = self.rounding(output, dtype)
        operator.inputs = np.array(inputs, "int32")
        operator.outputs = np.array([self._new(output, dtype, *rounding)], "int32")
        if name in VERSIONS:
            graph.raise_version(operator, VERSIONS[name][dtype == "INT16"])
        if dtype == "INT16" and name in ("ADD", "SUB") and operator.builtinOptions is not None:
            operator.builtinOptions.potScaleInt16 = False
        self.made.append(operator)

    def _matrix_inputs(self, operator):
        graph = self.graph
        source, weight, *bias = map(int, operator.inputs)
        source = self._integer(source, "INT8")
        integers, scales = quantize_rows(graph.constant(weight))
        name = graph.tensors[weight].name
        inputs = [source, graph.add_constant(name + b"_int8", integers)]
        graph.set_constant(inputs[1], integers, scales=scales)
        if bias and bias[0] >= 0:
            steps = scales.astype("float64") * self._rounding_of(source)[0]
            limit = 2**31 - 1
            rounded = np.clip(np.rint(graph.constant(bias[0]) / steps), -limit, limit)
            inputs.append(graph.add_constant(name + b"_bias", rounded.astype("int32")))
            graph.tensors[inputs[-1]].quantization = graph.quantization(steps, 0)
        return [*inputs, -1][:3]

    def _gelu_in_float(self, operator, output):
        graph = self.graph
        source = self._integer(int(operator.inputs[0]), "INT8")
        name, shape = graph.tensors[output].name, graph.shape(output)
        before = graph.add_tensor(name + b"_before", shape, "FLOAT32")
        after = graph.add_tensor(name + b"_after", shape, "FLOAT32")
        operator.inputs, operator.outputs = (np.array([t], "int32") for t in (before, after))
        rounded = self._new(output, "INT8", *self.rounding(output, "INT8"))
        self.made += [
            graph.make_operator("DEQUANTIZE", [source], [before], 2),
            operator,
            graph.make_operator("QUANTIZE", [after], [rounded]),
        ]

    def _integer(self, tensor, dtype):
        """A tensor's integer form, rounded here if nothing did before."""
        if (tensor, dtype) in self.integers:
            return self.integers[tensor, dtype]
        if self.graph.is_constant(tensor):
            return self._constant(tensor, dtype)
        other = next((i for (t, _), i in self.integers.items() if t == tensor), None)
        new = self._new(tensor, dtype, *self.rounding(tensor, dtype))
        source = tensor if other is None else other
        version = 2 if "INT16" in (dtype, self.graph.dtype(source)) else 1
        self.made.append(self.graph.make_operator("QUANTIZE", [source], [new], version))
        return new

    def _constant(self, tensor, dtype):
        graph, values = self.graph, self.graph.constant(tensor)
        low, high = (float(f(values)) for f in (np.min, np.max))
        scale, zero = _rounding(low, high, dtype, tensor in self.symmetric)
        integers = np.clip(np.rint(values / scale) + zero, *TYPES[dtype]).astype(dtype.lower())
        new = graph.add_constant(graph.tensors[tensor].name + b"_" + dtype.encode(), integers)
        graph.tensors[new].quantization = graph.quantization(scale, zero)
        self.integers[tensor, dtype] = new
        return new

    def _dequantize(self, tensor):
        integer = next(i for (t, _), i in self.integers.items() if t == tensor)
        version = 3 if self.graph.dtype(integer) == "INT16" else 2
        self.made.append(self.graph.make_operator("DEQUANTIZE", [integer], [tensor], version))

    def _new(self, tensor, dtype, scale, zero):
        graph = self.graph
        name = graph.tensors[tensor].name + b"_" + dtype.lower().encode()
        new = graph.add_tensor(name, graph.shape(tensor), dtype)
        graph.tensors[new].shape = graph.tensors[tensor].shape
        graph.tensors[new].quantization = graph.quantization(scale, zero)
        self.integers[tensor, dtype] = new
        return new

    def _rounding_of(self, tensor):
        quantization = self.graph.tensors[tensor].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def rounding(self, tensor, dtype):
        low, high = self.ranges[tensor]
        readers = [self.graph.name(op) for op in self.graph.consumers(tensor)]
        if readers and set(readers) == {"GELU"}:
            low = max(low, GELU_FLOOR)
        return _rounding(low, high, dtype, tensor in self.symmetric)


def _rounding(low, high, dtype, symmetric):
    """(scale, zero point) of a range; 0 is always among the numbers that are exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    smallest, largest = TYPES[dtype]
    if symmetric or dtype == "INT16":
        return max(-low, high, largest * SMALLEST_SCALE) / largest, 0
    scale = max((high - low) / (largest - smallest), SMALLEST_SCALE)
    return scale, int(np.clip(np.rint(smallest - low / scale), smallest, largest))
