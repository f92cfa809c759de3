"""What is inside a .tflite file, read from its flatbuffer."""

import collections
import dataclasses
import pathlib

from keras_addnorm.export.errors import ExportError

# Ops that only a runtime with more than the built-in ops, or with variables, can run.
VARIABLE_OPS = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


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


def _names(enum):
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


def read_contents(path):
    """Reads a file's `Contents`.

    Raises:
        ExportError: if it is no TFLite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = pathlib.Path(path).read_bytes()
    if data[4:8] != b"TFL3":
        raise ExportError(f"{path} is no TFLite model: its identifier is {data[4:8]!r}.")
    try:
        model = schema.Model.GetRootAs(data)
        if not model.SubgraphsLength():
            raise ValueError("it has no graph")
        return _contents(model, _names(schema.BuiltinOperator), _names(schema.TensorType))
    except Exception as error:
        raise ExportError(f"{path} is a broken TFLite model: {error}") from error


def _tensor_name(graph, operator):
    """Name of the first tensor of an operator, which starts with the layer's path."""
    if operator.OutputsLength():
        return graph.Tensors(operator.Outputs(0)).Name().decode()
    if operator.InputsLength():
        return graph.Tensors(operator.Inputs(0)).Name().decode()
    return "the whole model"


def _contents(model, op_names, type_names):
    operators, weights, forbidden = collections.Counter(), collections.Counter(), {}
    codes = []
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        custom = code.CustomCode()
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        codes.append(f"CUSTOM:{custom.decode()}" if custom else op_names[builtin])
    for s in range(model.SubgraphsLength()):
        graph = model.Subgraphs(s)
        for i in range(graph.OperatorsLength()):
            operator = graph.Operators(i)
            name = codes[operator.OpcodeIndex()]
            operators[name] += 1
            if name.startswith("CUSTOM:") or name in VARIABLE_OPS:
                forbidden.setdefault(name, _tensor_name(graph, operator))
        for i in range(graph.TensorsLength()):
            tensor = graph.Tensors(i)
            size = model.Buffers(tensor.Buffer()).DataLength()
            if size:
                weights[type_names[tensor.Type()]] += size
    return Contents(dict(operators), dict(weights), forbidden)
