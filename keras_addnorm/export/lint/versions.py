"""Rules about the runtimes that can load a file: each has a newest version of each operator."""

from keras_addnorm.export.lint.rules import Hit, Rule, layer_of
from keras_addnorm.export.reader import read_model

# An operator a line: the first TensorFlow Lite runtime with its version 1, 2, 3 and so on; 1 stands
# for runtimes before 2.0. Versions of other operators are older than 2.0, or rare in encoders.
# Source: `tools/versioning/runtime_version.cc` of LiteRT.
TABLE = """
    ABS 1 2.4 2.5 2.6 2.12
    ADD 1 1 2.4 2.6 2.13 2.23
    ARG_MAX 1 1 2.9
    ASSIGN_VARIABLE 2.6
    AVERAGE_POOL_2D 1 1 2.3
    BATCH_MATMUL 2.3 2.3 2.4 2.5
    BROADCAST_ARGS 2.6
    BROADCAST_TO 2.5 2.5 2.5 2.23
    CALL_ONCE 2.5
    CAST 1 2.7 2.8 2.9 2.12 2.15 2.17 2.21 2.23
    CONCATENATION 1 1 2.3 2.14 2.21 2.23 2.23
    CONV_2D 1 1 1 2.3 2.4 2.9 2.11 2.15
    COS 1 2.23
    CUMSUM 2.4
    DEPTHWISE_CONV_2D 1 1 1 2.2 2.3 2.3 2.11
    DEQUANTIZE 1 1 1 2.2 2.7 2.18 2.21 2.22 2.23
    DIV 1 2.3
    DYNAMIC_UPDATE_SLICE 2.9 2.17 2.19 2.20 2.21 2.22
    EMBEDDING_LOOKUP 1 1 1 2.18 2.21
    EQUAL 1 1 2.3 2.13 2.21
    EXP 1 2.12
    FILL 1 2.3 2.5 2.12 2.23
    FLOOR_DIV 1 1 2.13
    FLOOR_MOD 1 2.13
    FULLY_CONNECTED 1 1 1 1 2.0 2.1 2.3 2.3 2.3 2.11 2.15 2.17 2.18 2.21
    GATHER 1 1 1 2.4 2.5 2.13 2.15 2.23
    GATHER_ND 1 2.3 2.5 2.13 2.16 2.23
    GELU 2.9 2.9 2.23
    GREATER_EQUAL 1 1 2.13
    LESS 1 1 2.13
    LOG 1 2.15
    LOGISTIC 1 1 2.3
    MAXIMUM 1 1 2.3 2.3
    MAX_POOL_2D 1 1 2.3
    MEAN 1 1 2.4
    MINIMUM 1 1 2.3 2.3
    MIRROR_PAD 1 2.3 2.12
    MUL 1 1 1 2.3 2.6 2.11 2.13 2.23
    NOT_EQUAL 1 1 2.3 2.21
    PACK 1 1 2.3 2.13 2.23
    PAD 1 1 2.4 2.6 2.20 2.23
    PADV2 1 1 2.4 2.6 2.20 2.23
    QUANTIZE 1 1 2.7 2.21 2.21 2.21
    RANGE 1 2.14
    READ_VARIABLE 2.6
    REDUCE_ALL 2.6
    REDUCE_MAX 1 1 2.5
    REDUCE_MIN 1 1 2.5
    REDUCE_PROD 1 2.6
    RELU 1 2.1 2.5
    RELU6 1 1 2.5
    RESIZE_BILINEAR 1 1 2.2 2.5
    RESIZE_NEAREST_NEIGHBOR 1 1 2.3 2.4
    REVERSE_V2 1 2.2 2.5 2.23
    RSQRT 1 2.5 2.15
    SCATTER_ND 2.1
    SELECT 1 1 2.12 2.12
    SELECT_V2 2.2 2.12
    SIGN 2.11 2.12
    SIN 1 2.23
    SLICE 1 1 1 2.4 2.5 2.14 2.21 2.23
    SOFTMAX 1 1 2.3 2.23
    SPACE_TO_BATCH_ND 1 1 2.3 2.12
    SPLIT 1 1 1 2.3 2.23
    SPLIT_V 1 2.3 2.23
    SQRT 1 2.21
    SQUARED_DIFFERENCE 1 2.5
    SQUEEZE 1 2.5
    STABLEHLO_COMPOSITE 2.17
    STRIDED_SLICE 1 1 2.1 2.2 2.5 2.6 2.14 2.14
    SUB 1 1 2.3 2.4 2.4
    TANH 1 1 2.3
    TILE 1 2.2 2.8
    TOPK_V2 1 1 2.13
    TRANSPOSE 1 1 1 2.3 2.4 2.12 2.14.4 2.22 2.23
    TRANSPOSE_CONV 1 2.2 2.3 2.13 2.15
    UNPACK 1 1 2.2 2.3 2.22 2.23
    VAR_HANDLE 2.6
    WHERE 1 2.8
"""
RUNTIMES = {name: runtimes for name, *runtimes in map(str.split, TABLE.strip().splitlines())}
OLDEST = "2.0"


def _as_numbers(runtime):
    return tuple(map(int, runtime.split(".")))


def _runtime(op):
    """The first runtime with an operator's version, or None where the table ends before it."""
    runtimes = RUNTIMES.get(op.name)
    if runtimes is None:
        return OLDEST
    if not 1 <= op.version <= len(runtimes):
        return None
    return max(OLDEST, runtimes[op.version - 1], key=_as_numbers)


def lowest_runtime(path):
    """The oldest TensorFlow Lite runtime that has all operators of a .tflite file.

    Returns:
        String such as `"2.17"`; `"2.0"` also stands for older ones. Operators and versions that
        are not in `TABLE` do not count.

    Raises:
        ExportError: if it is no TFLite model.
    """
    return _lowest(read_model(path))


def _lowest(model):
    found = [_runtime(op) for graph in model.graphs for op in graph.operators]
    return max([OLDEST, *filter(None, found)], key=_as_numbers)


def _lowest_runtime(subject):
    lowest = _lowest(subject.model)
    for _, op in subject.operators:
        if lowest != OLDEST and _runtime(op) == lowest:
            yield Hit(f"needs TFLite {lowest}: {op.name} version {op.version}")


def _unknown_version(subject):
    for _, op in subject.operators:
        if _runtime(op) is None:
            yield Hit(f"{op.name} version {op.version}", layer_of(op))


def _metadata(subject):
    data = subject.model.metadata.get("min_runtime_version")
    written = "" if data is None else bytes(data).rstrip(b"\0").decode(errors="replace")
    numbers = written.split(".")
    if not all(part.isdecimal() for part in numbers):
        return
    lowest = _lowest(subject.model)
    if lowest != OLDEST and _as_numbers(written)[:2] < _as_numbers(lowest)[:2]:
        yield Hit(f"min_runtime_version says {written}, the operators need {lowest}")


RULES = (
    Rule(
        "lowest-runtime",
        "note",
        "Older runtimes, such as one that is compiled into an application, refuse the file.",
        "Ship a current LiteRT with the application, or convert with an older TensorFlow.",
        _lowest_runtime,
    ),
    Rule(
        "unknown-version",
        "warning",
        "The version is newer than any that this package knows of; most runtimes will refuse it.",
        "Convert with a released TensorFlow or LiteRT.",
        _unknown_version,
    ),
    Rule(
        "wrong-metadata",
        "warning",
        "Applications that trust the file's metadata pass it to a runtime that refuses it.",
        "Convert it again; tools that change a file must write the version anew.",
        _metadata,
    ),
)
