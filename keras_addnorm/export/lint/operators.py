"""Rules about operators and shapes: what no runtime has, and what splits XNNPACK's part."""

import collections

from keras_addnorm.export.inspect import VARIABLE_OPS
from keras_addnorm.export.lint.rules import Hit, Rule, between, layer_of

# Custom ops that every stock runtime registers beside the built-in ones.
# Source: `tflite/core/kernels/register.cc` of LiteRT.
SHIPPED = ("NumericVerify", "Mfcc", "AudioSpectrogram", "TFLite_Detection_PostProcess")

# What to do about operators that delegates leave out.
FIXES = {
    "BROADCAST_TO": "Fix the batch and length in the export; let ADD and MUL broadcast.",
    "SELECT": "Write the choice as arithmetic: multiply by a mask of 0 and 1, or add a mask.",
    "WHERE": "Keep the shape: multiply by a mask instead of picking the elements where it is true.",
    "GATHER": "Look up ids only; take fixed rows or columns by slices.",
    "GATHER_ND": "Flatten the indices and use one GATHER, or multiply by a one-hot matrix.",
    "SHAPE": "Fix the batch and length in the export.",
    "CUMSUM": "Multiply by a triangular matrix of ones.",
    "TOPK_V2": "Sort or pick after the model, in the application.",
    "RESHAPE": "Fix the batch and length in the export, so that the new shape is a constant.",
}
FIXES["ADD"] = "Keep the same number of axes on both sides, one shape along the residual stream."
FIXES |= {
    "MUL": FIXES["ADD"],
    "SELECT_V2": FIXES["SELECT"],
    "STRIDED_SLICE": FIXES["SHAPE"],
    "PACK": FIXES["SHAPE"],
}
FIX = "Write the layer with other ops, or move it to the start or end of the model."


def _custom(subject):
    for _, op in subject.operators:
        kind, _, name = op.name.partition(":")
        if kind == "CUSTOM":
            yield name, op


def _flex(subject):
    for name, op in _custom(subject):
        if name.startswith("Flex"):
            yield Hit(f"{name[4:]} as a Flex op", layer_of(op))


def _custom_op(subject):
    for name, op in _custom(subject):
        if not name.startswith("Flex"):
            severity = "warning" if name in SHIPPED else "error"
            yield Hit(f"{name} as a custom op", layer_of(op), severity)


def _variable(subject):
    names = {op.name for _, op in subject.operators}
    severity = "warning" if {"CALL_ONCE", "ASSIGN_VARIABLE"} & names else "error"
    for _, op in subject.operators:
        if op.name in VARIABLE_OPS and op.name != "CALL_ONCE":
            values = "" if severity == "warning" else " of a variable that nothing sets"
            yield Hit(f"{op.name}{values}", layer_of(op), severity)


def _call_once(subject):
    for _, op in subject.operators:
        if op.name == "CALL_ONCE":
            yield Hit("CALL_ONCE runs a graph that sets variables or tables")


def _shape(tensor):
    sizes = ", ".join("any" if size < 0 else str(size) for size in tensor.shape)
    return f"{tensor.name.removeprefix('serving_default_').removesuffix(':0')} ({sizes})"


def _open_inputs(subject):
    """The inputs of each graph that have an open axis."""
    for graph in subject.model.graphs:
        inputs = [t for t in graph.inputs if t is not None and -1 in t.shape]
        if inputs:
            yield inputs


def _dynamic_shape(subject):
    for inputs in _open_inputs(subject):
        yield Hit(f"inputs of open size: {'; '.join(map(_shape, inputs))}")


def _two_open_axes(subject):
    for inputs in _open_inputs(subject):
        worst = max(inputs, key=lambda tensor: tensor.shape.count(-1))
        if worst.shape.count(-1) > 1:
            yield Hit(f"batch and length are both open in {_shape(worst)}")


def _does_not_load(subject):
    known = any(name not in SHIPPED for name, _ in _custom(subject))
    if subject.loaded.error and not known:  # otherwise another finding says why
        yield Hit(subject.loaded.error)


def _xnnpack(subject):
    loaded = subject.loaded
    if loaded.error:
        return
    graph = subject.model.graphs[0]
    if not loaded.parts:
        yield Hit("XNNPACK takes no part of the graph")
    if len(loaded.parts) < 2:
        return
    ops = between(graph, loaded.delegated)
    for op in ops:
        message = f"{len(loaded.parts)} parts: {op.name} stands between two of them"
        yield Hit(message, layer_of(op), fix=FIXES.get(op.name, FIX))
    if not ops:
        message = f"{len(loaded.parts)} parts, with no other op between them"
        unpacking = any(op.name == "DEQUANTIZE" for op in graph.operators)
        why = "One part only unpacks constants; it runs once, at loading." if unpacking else None
        yield Hit(message, severity="note", cost=why, fix="Nothing to do.")


def _xnnpack_edge(subject):
    loaded = subject.loaded
    if not loaded.parts:
        return
    graph = subject.model.graphs[0]
    inner = {op.index for op in between(graph, loaded.delegated)}
    outer = [op for op in graph.operators if op.index not in loaded.delegated | inner]
    if outer:
        yield Hit(f"not delegated, at the start or end: {count_by_name(outer)}")


def count_by_name(operators):
    """Operators as text: `2 CAST, 1 GATHER`."""
    counts = collections.Counter(op.name for op in operators)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


RULES = (
    Rule(
        "flex",
        "error",
        "LiteRT and TensorFlow's wheels since 2.20 have no Flex delegate: the file does not load.",
        "Write the layer with keras.ops that have built-in counterparts, and convert with "
        "TFLITE_BUILTINS only.",
        _flex,
    ),
    Rule(
        "custom-op",
        "error",
        "Stock runtimes do not load the file unless the application registers the op itself; "
        "no delegate takes it.",
        "Write the layer with built-in ops.",
        _custom_op,
    ),
    Rule(
        "variable",
        "error",
        "A variable that nothing sets has no value: the results are an error or garbage. One that "
        "is set is state that calls share, and no GPU or NPU delegate takes it.",
        "Convert from a SavedModel, or from a tf.Module that holds the variables, so that weights "
        "become constants.",
        _variable,
    ),
    Rule(
        "call-once",
        "warning",
        "Runtimes before TFLite 2.5 refuse the file; GPU and NPU delegates leave the graph out.",
        "Freeze variables and tables into constants.",
        _call_once,
    ),
    Rule(
        "does-not-load",
        "error",
        "ai-edge-litert refuses the file, so it cannot run there.",
        "Convert it again with a current converter and built-in ops.",
        _does_not_load,
    ),
    Rule(
        "dynamic-shape",
        "warning",
        "GPU and NPU delegates and LiteRT.js need fixed sizes; LiteRT on a CPU takes any size "
        "after resize_tensor_input, and XNNPACK with it.",
        "For those, export one file for each length you need (a fixed sequence_length).",
        _dynamic_shape,
    ),
    Rule(
        "two-open-axes",
        "warning",
        "Each new shape has two unknown sizes, so it is computed at run time by SHAPE and PACK, "
        "which no delegate takes: the graph falls into many parts.",
        "Fix the batch (batch_size=1) and leave only the length open.",
        _two_open_axes,
    ),
    Rule(
        "xnnpack-parts",
        "warning",
        "On a CPU, ops outside of XNNPACK run in slower kernels, one at a time, and each border "
        "is a copy and a stop for its threads.",
        FIX,
        _xnnpack,
    ),
    Rule(
        "xnnpack-edge",
        "note",
        "Little: they split nothing, and ops on ids and masks are cheap.",
        "Nothing to do.",
        _xnnpack_edge,
    ),
)
