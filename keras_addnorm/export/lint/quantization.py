"""Rules about quantized files: ruined ranges, weights left out, and weights treated coarsely."""

import numpy as np

from keras_addnorm.export.lint.rules import Hit, Rule, layer_of, layer_of_name

MASK = -1e3
SMALL = 4096  # elements; below it a float constant does not matter
LARGE_SHARE = 0.1  # of the file
FULL = 120  # of 127 steps
TABLES = {"GATHER": 0, "EMBEDDING_LOOKUP": 1}  # and which input is the table
INTEGERS = ("INT8", "INT4", "INT2")


def _mask(subject):
    for graph in subject.model.graphs:
        for tensor in graph.tensors:
            if tensor.dtype != "INT8" or tensor.scales.size != 1:
                continue
            step = float(tensor.scales[0])
            zero = float(tensor.zero_points[0]) if tensor.zero_points.size else 0.0
            low = (-128 - zero) * step if tensor.data is None else _lowest(tensor, zero, step)
            if low <= MASK:
                message = f"int8 values down to {low:.4g}, in steps of {step:.3g}"
                yield Hit(message, layer_of_name(tensor.name))


def _lowest(tensor, zero, step):
    return (float(tensor.values.min()) - zero) * step if tensor.values.size else 0.0


def _float_weights(subject):
    constants = subject.constants
    if not any(t.dtype in INTEGERS and t.data.size >= SMALL // 4 for _, t, _ in constants):
        return
    for _, tensor, op in constants:
        width = {"FLOAT32": 4, "FLOAT16": 2}.get(tensor.dtype, 0)
        if not width or tensor.data.size < SMALL * width:
            continue
        share = tensor.data.size / subject.model.size
        shape = "x".join(map(str, tensor.shape))
        yield Hit(
            f"{tensor.data.size / 1e6:.2f} MB of {tensor.dtype.lower()} ({shape}) in {op.name}, "
            f"{share:.0%} of the file",
            layer_of(op),
            "warning" if share >= LARGE_SHARE else "note",
        )


def _one_scale(subject):
    for _, tensor, op in subject.constants:
        if op.name not in TABLES or tensor.dtype not in INTEGERS or tensor.scales.size != 1:
            continue
        if op.inputs[TABLES[op.name]] is not tensor or len(tensor.shape) != 2:
            continue
        rows, columns = tensor.shape
        detail = ""
        if tensor.values is not None and tensor.values.size == rows * columns:
            largest = np.abs(tensor.values.reshape(tensor.shape).astype("int16")).max(axis=1)
            median = float(np.median(largest))
            if median > FULL:  # Each row was scaled to the whole range: its scale is elsewhere.
                continue
            detail = f"; half of the rows use {median:.0f} of its 127 steps or fewer"
        yield Hit(f"one scale for {rows} rows of {columns}{detail}", layer_of(op))


RULES = (
    Rule(
        "int8-mask",
        "warning",
        "One step is larger than the scores beside the mask, so they all become the same number: "
        "full-integer files lose their attention.",
        "Quantize with a mask constant of -100 to -20, and calibrate with padded rows.",
        _mask,
    ),
    Rule(
        "float-weights",
        "warning",
        "They have 2 or 4 bytes an element where the other weights have 1.",
        "Quantize them too; ai-edge-quantizer leaves a GATHER alone and takes EMBEDDING_LOOKUP.",
        _float_weights,
    ),
    Rule(
        "one-scale",
        "warning",
        "The largest element of the table sets the step of all rows, so rows of small numbers keep "
        "few bits.",
        "Quantize by row (a scale each), or keep the table in float16 where accuracy counts.",
        _one_scale,
    ),
)
