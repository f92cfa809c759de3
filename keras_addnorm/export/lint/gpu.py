"""Rules about GPU delegates, which have fewer operators than the CPU and tensors of rank 4 at most.

TensorFlow's own analyzer (`tf.lite.experimental.Analyzer`, `gpu_compatibility=True`) calls every
file compatible: in TensorFlow 2.21 and LiteRT 2.3 it fills no list of incompatible nodes. So the
delegate's conditions are here, as data. Source: `tools/versioning/gpu_compatibility.cc` and
`delegates/gpu/common/model_builder.cc` of LiteRT.
"""

from keras_addnorm.export.lint.operators import FIX, FIXES, count_by_name
from keras_addnorm.export.lint.rules import Hit, Rule, between, layer_of

MOST_AXES = 4

OPERATORS = set(
    """
    ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS CUMSUM DENSIFY
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT
    PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1
    RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN
    SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM
    TANH TILE TRANSPOSE TRANSPOSE_CONV UNPACK
    """.split()
)
# Types of the tensors that it computes with, and what single ops take and make beside them.
TYPES = {"FLOAT32", "FLOAT16", "INT8", "UINT8"}
MORE_INPUTS = {
    "CAST": {"BOOL", "INT32"},
    "GATHER": {"INT32"},
    "LOGICAL_AND": {"BOOL"},
    "ONE_HOT": {"INT32"},
    "SELECT": {"BOOL"},
    "SELECT_V2": {"BOOL"},
}
COMPARISONS = "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_AND".split()
MORE_OUTPUTS = {name: {"BOOL"} for name in COMPARISONS} | {"CAST": {"BOOL", "INT32"}}
# Their shape, axes or sizes must be constants.
ONE_COMPUTED_INPUT = set(
    "MEAN REDUCE_MAX REDUCE_MIN REDUCE_PROD RESHAPE SUM TILE TRANSPOSE PAD PADV2".split()
)


def _computed(op):
    return [tensor for tensor in op.inputs if tensor is not None and tensor.data is None]


def _broadcast(op):
    """ADD and MUL of two ranks: the delegate lays axes out its own way and knows few cases."""
    ranks = sorted((t.shape for t in op.inputs if t is not None), key=len)
    if len(ranks) != 2 or len(ranks[0]) < 2 or len(ranks[0]) == len(ranks[1]):
        return None
    short, long = ranks
    if len(long) == 4 and long[0] == 1 and (len(short) == 3 or short == (1, 1)):
        return None
    if len(long) == 4 and len(short) == 2 and (long[0], long[3]) == short:
        return None
    return f"no broadcasting of rank {len(short)} to rank {len(long)} before ML Drift"


def _gather(op):
    return None if len(op.inputs[1].shape) == 1 else "indices must have one axis"


def _select(op):
    made = op.outputs[0].shape
    for tensor in op.inputs[1:3]:
        if tensor.shape not in (made, (), (1,)):
            return "both choices must have the shape of the result, or one element"
        if tensor.data is None and len(tensor.shape) == 2:
            return "a choice of two axes must be a constant"
    return None


def _slice(op):
    return None if len(op.inputs[0].shape) in (3, 4) else "tensors of 3 or 4 axes only"


def _strided_slice(op):
    from ai_edge_litert.schema_py_generated import StridedSliceOptions

    options = StridedSliceOptions()
    if op.options is not None:
        options.Init(op.options.Bytes, op.options.Pos)
        if options.EllipsisMask() or options.NewAxisMask() or options.ShrinkAxisMask():
            return "no axes may be added or dropped"
    return _slice(op)


def _fully_connected(op):
    return "the input must not be a constant" if op.inputs[0].data is not None else None


CONDITIONS = {
    "ADD": _broadcast,
    "MUL": _broadcast,
    "GATHER": _gather,
    "SELECT": _select,
    "SELECT_V2": _select,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "FULLY_CONNECTED": _fully_connected,
}


def _complaint(op):
    """Why the delegate does not take an operator, or None."""
    if op.name not in OPERATORS:
        return "the delegate has no such op"
    for tensors, more in ((_computed(op), MORE_INPUTS), (op.outputs, MORE_OUTPUTS)):
        other = {t.dtype for t in tensors} - TYPES - more.get(op.name, set())
        if other:
            return f"not for {', '.join(sorted(other))}"
    if op.name in ONE_COMPUTED_INPUT and len(_computed(op)) > 1:
        return "its shape or axes must be constants"
    return CONDITIONS[op.name](op) if op.name in CONDITIONS else None


def _has_many_axes(op):
    tensors = (*op.inputs, *op.outputs)
    return any(tensor is not None and len(tensor.shape) > MOST_AXES for tensor in tensors)


def _rank(subject):
    for _, op in subject.operators:
        ranks = [len(tensor.shape) for tensor in op.outputs]
        if max(ranks, default=0) > MOST_AXES:
            yield Hit(f"{op.name} makes a tensor of rank {max(ranks)}", layer_of(op))


def _sorted_operators(graph):
    """The delegate's complaints by operator, and the operators that split its part, and others."""
    complaints = {op.index: _complaint(op) for op in graph.operators}
    taken = {op.index for op in graph.operators if not (complaints[op.index] or _has_many_axes(op))}
    inner = between(graph, taken)
    others = taken | {op.index for op in inner}
    return complaints, inner, [op for op in graph.operators if op.index not in others]


def _gpu(subject):
    complaints, inner, _ = _sorted_operators(subject.model.graphs[0])
    for op in inner:
        why = complaints[op.index]
        if why and not op.name.startswith("CUSTOM:"):  # which have rules of their own
            yield Hit(f"{op.name}: {why}", layer_of(op), fix=FIXES.get(op.name))


def _gpu_edge(subject):
    _, _, outer = _sorted_operators(subject.model.graphs[0])
    if outer:
        yield Hit(f"not delegated, at the start or end: {count_by_name(outer)}")


RULES = (
    Rule(
        "tensor-rank",
        "warning",
        f"GPU delegates take tensors of at most {MOST_AXES} axes; they leave the op to the CPU.",
        "Fold axes together: the batch into the length, or the groups into the heads.",
        _rank,
    ),
    Rule(
        "gpu-op",
        "warning",
        "The GPU delegate takes one part of the graph, the largest; this op splits it, and what is "
        "left runs on the CPU.",
        FIX,
        _gpu,
    ),
    Rule(
        "gpu-edge",
        "note",
        "Little: they split nothing, the GPU delegate takes the rest whole.",
        "Nothing to do.",
        _gpu_edge,
    ),
)
