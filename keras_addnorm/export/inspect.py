"""What is inside a .tflite file, in short."""

import collections
import dataclasses

from keras_addnorm.export.reader import read_model

# Ops that only a runtime with more than the built-in ops, or with variables, can run.
VARIABLE_OPS = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
# XNNPACK takes the second input for a constant and computes zeros.
HYBRID_PRODUCT = "BATCH_MATMUL of float32 and computed int8"


@dataclasses.dataclass(frozen=True)
class Contents:
    """Ops and tensor types of a .tflite file.

    Attributes:
        operators: count by name, custom ones as `CUSTOM:name`.
        weight_types: bytes of constant data by dtype.
        forbidden: name of a tensor of each op that must not be shipped, by the op's name.
    """

    operators: dict
    weight_types: dict
    forbidden: dict


def read_contents(path):
    """Reads a file's `Contents`.

    Raises:
        ExportError: if it is no TFLite model.
    """
    operators, weights, forbidden = collections.Counter(), collections.Counter(), {}
    counted = set()  # Graphs of several lengths share their weights.
    for graph in read_model(path).graphs:
        for op in graph.operators:
            operators[op.name] += 1
            if op.name.startswith("CUSTOM:") or op.name in VARIABLE_OPS:
                forbidden.setdefault(op.name, _tensor_name(op))
            if op.name == "BATCH_MATMUL" and _is_hybrid(*op.inputs):
                forbidden.setdefault(HYBRID_PRODUCT, _tensor_name(op))
        for tensor in graph.tensors:
            where = None if tensor.data is None else tensor.data.ctypes.data
            if where is not None and where not in counted:
                counted.add(where)
                weights[tensor.dtype] += tensor.data.size
    return Contents(dict(operators), dict(weights), forbidden)


def _is_hybrid(left, right):
    return left.dtype == "FLOAT32" and right.dtype == "INT8" and right.data is None


def _tensor_name(operator):
    """Name of the first tensor of an operator, which starts with the layer's path."""
    tensors = [t for t in (*operator.outputs, *operator.inputs) if t is not None]
    return tensors[0].name if tensors else "the whole model"
