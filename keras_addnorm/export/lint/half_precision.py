"""Rules about half precision: GPU delegates and fp16 CPU kernels compute float32 files in it."""

import numpy as np

from keras_addnorm.export.lint.rules import Hit, Rule, constant, layer_of

LARGEST = 65504.0  # of float16
SMALLEST = 6e-8  # the smallest number above 0; a half of it and less becomes 0
LARGE_FACTOR = 1e3  # times an integer of 66 it is beyond LARGEST
SHAPES_ONLY = ("RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE", "CAST", "SUB", "NEG")


def _number(value):
    return f"{value:.5g}"


def _overflow(subject):
    for _, tensor, op in subject.constants:
        if tensor.dtype != "FLOAT32" or not tensor.values.size:
            continue
        low, high = float(tensor.values.min()), float(tensor.values.max())
        worst = max(low, high, key=abs)
        if np.isfinite(worst) and abs(worst) > LARGEST:
            yield Hit(f"a constant of {_number(worst)} in {op.name}", layer_of(op))


def _not_finite(subject):
    for _, tensor, op in subject.constants:
        if tensor.dtype in ("FLOAT32", "FLOAT16") and tensor.values.size:
            # The sum of two numbers is NaN or infinite if one is; min and max pass NaN on.
            with np.errstate(over="ignore", invalid="ignore"):
                if not np.isfinite([tensor.values.min(), tensor.values.max()]).all():
                    yield Hit(f"a constant with NaN or infinity in {op.name}", layer_of(op))


def _scaled_integer(subject):
    for graph, op in subject.operators:
        if op.name != "MUL" or len(op.inputs) != 2:
            continue
        left, right = op.inputs
        for tensor, other in ((left, right), (right, left)):
            values = constant(graph, tensor)
            if values is None or not values.size or other is None:
                continue
            factor = float(np.abs(values).max())
            if LARGE_FACTOR <= factor <= LARGEST and _from_integers(graph, other):
                limit = int(LARGEST / factor)
                yield Hit(f"integers times {_number(factor)}", layer_of(op), fix=_mask_fix(limit))


def _mask_fix(limit):
    return f"Nothing to do for a mask of 0 and 1; scale others first: those above {limit} overflow."


def _from_integers(graph, tensor, steps=4):
    """Whether a tensor is a CAST of integers, or a little arithmetic on one."""
    op = graph.producers.get(tensor.index)
    if op is None or steps == 0:
        return False
    if op.name == "CAST" and op.inputs[0].dtype in ("INT32", "INT64"):
        return True
    inputs = [t for t in op.inputs[:2] if t is not None and t.data is None]
    return op.name in SHAPES_ONLY and any(_from_integers(graph, t, steps - 1) for t in inputs)


def _epsilon(subject):
    for graph, op in subject.operators:
        divisor = {"RSQRT": 0, "SQRT": 0, "LOG": 0, "DIV": 1}.get(op.name)
        if divisor is None or len(op.inputs) <= divisor or op.inputs[divisor] is None:
            continue
        guard = graph.producers.get(op.inputs[divisor].index)
        if guard is None or guard.name not in ("ADD", "MAXIMUM"):
            continue
        for tensor in guard.inputs:
            values = constant(graph, tensor)
            if values is None or values.size != 1 or not 0 <= values[0] < SMALLEST:
                continue
            if values[0]:
                yield Hit(f"epsilon {_number(values[0])} before {op.name}", layer_of(op))
            elif tensor.data is None or tensor.dtype == "FLOAT16":
                yield Hit(
                    f"epsilon 0 before {op.name}: it was smaller, and stored as float16",
                    layer_of(op),
                    cost="In any precision: where the value is 0 the result is NaN or infinite.",
                )


def _squares(subject):
    for graph, op in subject.operators:
        if op.name not in ("SUM", "MEAN") or op.inputs[0] is None:
            continue
        square = graph.producers.get(op.inputs[0].index)
        if square is None or not _is_square(square):
            continue
        if op.name == "MEAN":
            yield Hit("a mean of squares: overflows where a value is beyond 255", layer_of(op))
            continue
        made = max(abs(int(np.prod(op.outputs[0].shape))), 1)
        count = abs(int(np.prod(op.inputs[0].shape))) // made
        limit = np.sqrt(LARGEST / max(count, 1))
        yield Hit(
            f"a sum of {count} squares: overflows where values are beyond {limit:.3g} on average",
            layer_of(op),
        )


def _is_square(op):
    if op.name == "MUL":
        return len(op.inputs) == 2 and op.inputs[0] is op.inputs[1]
    return op.name in ("SQUARE", "SQUARED_DIFFERENCE")


RULES = (
    Rule(
        "fp16-overflow",
        "warning",
        "In fp16 (GPU delegates, allow_fp16) it is infinite, and times 0 it is NaN: with a mask "
        "constant whole rows.",
        "Use a mask constant such as -1e4, or run in float32 "
        "(the GPU delegate's precision loss off).",
        _overflow,
    ),
    Rule(
        "not-finite",
        "warning",
        "NaN spreads to every value it meets; infinity times 0, or minus itself, is NaN.",
        "Look for a diverged training or a mask of -inf; use -1e4 in masks.",
        _not_finite,
    ),
    Rule(
        "fp16-integers",
        "note",
        f"In fp16 products beyond {LARGEST:.0f} are infinite, and integers above 2048 are rounded.",
        "Scale first.",
        _scaled_integer,
    ),
    Rule(
        "fp16-epsilon",
        "warning",
        "In fp16 it is 0 and guards nothing: where the values are all equal, or the variance below "
        "3e-8, the result is NaN or infinite. GPUs may round to 0 from 6e-5 on.",
        "Train or fine-tune with an epsilon of 1e-5 or more, or run in float32.",
        _epsilon,
    ),
    Rule(
        "fp16-squares",
        "note",
        "In fp16 squares beyond 65504 are infinite, and those below 3e-8 are 0.",
        "Scale before squaring, or run in float32, if activations get there.",
        _squares,
    ),
)
