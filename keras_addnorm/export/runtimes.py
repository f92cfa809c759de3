"""The TensorFlow Lite runtimes that know an operator's version."""

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


def as_numbers(runtime):
    """A runtime such as `"2.17"` as a tuple of ints, which compare as runtimes do."""
    return tuple(map(int, runtime.split(".")))


def first_runtime(name, version):
    """The first runtime with an operator's version.

    Returns:
        String such as `"2.17"`; `"2.0"` also stands for older ones, and for operators that are
        not in `TABLE`. None where the table ends before the version.
    """
    runtimes = RUNTIMES.get(name)
    if runtimes is None:
        return OLDEST
    if not 1 <= version <= len(runtimes):
        return None
    return newest([OLDEST, runtimes[version - 1]])


def newest(runtimes):
    """The newest of some runtimes, strings or None; at least `"2.0"`."""
    return max([OLDEST, *filter(None, runtimes)], key=as_numbers)
