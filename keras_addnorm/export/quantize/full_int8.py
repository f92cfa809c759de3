"""Everything in integers, for hardware without floats: matrix products in int8.

int8 has too few steps for the residual stream of a post-norm encoder: one channel of one token
reaches hundreds where the others are near 1, so that a step is larger than what most channels
hold. The stream and its norms are int16 here, which all their built-ins know; what takes the
time, products, softmax and GELU, is int8.
"""

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.quantize import calibration
from keras_addnorm.export.quantize.rewrites import (
    equalize_inputs,
    find_feed_forwards,
    scale_outputs,
    split_outliers,
    split_tables,
    square_by_product,
)
from keras_addnorm.export.quantize.static import (
    MOVES,
    VERSIONS,
    quantize_operators,
    tensors_between,
)
from keras_addnorm.export.quantize.weights import require_weights

# A score so far below the largest of its row has a probability under 1e-6, whatever it is: a range
# need not reach further down, be it for a mask's constant or for scores.
SCORES_THAT_COUNT = 14.0
MATRICES = ("BATCH_MATMUL", "CONV_2D", "FULLY_CONNECTED")
NARROW = (*MATRICES, "GELU", "SOFTMAX")  # what is int8
IN_FLOAT = ("SUM", "L2_NORMALIZATION")  # LiteRT has no int16 kernel, and int8 is too coarse


def full_int8(data, samples):
    """Weights and activations in integers of fixed ranges; int32 in, float32 out.

    Args:
        data: bytes of a float32 .tflite file of fixed shapes: this hardware has no others.
        samples: list of dicts of arrays by input name, as in `calibration.record`. What they make
            the tensors hold is the range of what the file can compute.

    Returns:
        Bytes of the quantized file. What is computed of the mask alone, and a last division and
        L2 norm of one vector, stay in float.

    Raises:
        ExportError: if `data` is no TFLite model, or has no weights or open shapes.
    """
    graph = Graph(data)
    require_weights(graph)
    _require_fixed_shapes(graph)
    samples = [*samples, *map(_padded, samples[:1])]
    split_tables(graph)
    products = _spread(graph, samples)
    selected = _integer_operators(graph)
    found = calibration.ranges(graph, tensors_between(graph, selected), samples)
    _cut_scores(graph, found, samples)
    quantize_operators(graph, selected, found, wide=_wide(graph, selected, products))
    return graph.to_bytes()


def _spread(graph, samples):
    """Rewrites the graph so that its tensors are easy to round; the products of the norms."""
    feed_forwards = find_feed_forwards(graph)
    if feed_forwards:
        feed_forwards += split_outliers(graph, feed_forwards, samples)
    active = {int(gelu.outputs[0]) for _, gelu, _ in feed_forwards}
    groups = {}
    for operator in graph.find("FULLY_CONNECTED"):
        source, weight = map(int, operator.inputs[:2])
        own = graph.is_constant(weight) and len(graph.consumers(weight)) == 1
        producer = graph.producer(source)
        if own and source not in active and producer and graph.name(producer) in ("ADD", "MUL"):
            groups.setdefault(source, []).append(operator)
    equalize_inputs(graph, groups, samples)
    scale_outputs(graph, [contract for _, _, contract in feed_forwards], samples)
    return square_by_product(graph)


def _require_fixed_shapes(graph):
    shapes = {name: graph.shape(tensor) for name, tensor in graph.signature_inputs().items()}
    if any(None in shape for shape in shapes.values()):
        raise ExportError(
            "Integer hardware runs fixed shapes only. Received: inputs of shapes "
            f"{shapes}, None being open. Export with a sequence_length and a batch_size."
        )


def _cut_scores(graph, found, samples):
    """Ends the ranges of scores where no softmax can tell what is below."""
    scores = [int(operator.inputs[0]) for operator in graph.find("SOFTMAX")]
    peaks = calibration.smallest_peaks(graph, scores, samples)
    for tensor in scores:
        producer = graph.producer(tensor)
        before = (
            [] if producer is None or graph.name(producer) == "BATCH_MATMUL" else producer.inputs
        )
        for score in (tensor, *map(int, before)):
            source = graph.producer(score)
            if score == tensor or source is not None and graph.name(source) == "BATCH_MATMUL":
                low, high = found[score]
                found[score] = max(low, peaks[tensor] - SCORES_THAT_COUNT), high


def _padded(sample):
    """A sample whose last position is padding, so that masked scores are in range."""
    sample = dict(sample)
    if "padding_mask" in sample:
        sample["padding_mask"] = np.array(sample["padding_mask"])
        sample["padding_mask"][..., -1] = 0
    return sample


def _integer_operators(graph):
    """Operators with integer kernels that compute something of weights and tables."""
    depends, selected = set(), []
    for operator in graph.operators:
        table = graph.name(operator) == "GATHER" and graph.is_constant(operator.inputs[0])
        matrix = graph.name(operator) in MATRICES
        if table or matrix or depends & set(map(int, operator.inputs)):
            depends |= set(map(int, operator.outputs))
            known = graph.name(operator) in (*VERSIONS, *MOVES)
            of_floats = graph.dtype(operator.outputs[0]) == "FLOAT32"
            if known and of_floats and graph.name(operator) not in IN_FLOAT:
                selected.append(operator)
    return selected


def _wide(graph, selected, products):
    """Those operators that compute in int16: all but products and what is done to their scores.

    Products with a mask sum over texts of any length: a short one would have few steps of int8.
    """
    made = {int(tensor) for operator in selected for tensor in operator.outputs}
    pools = [
        operator
        for operator in selected
        if graph.name(operator) == "BATCH_MATMUL" and not made.issuperset(operator.inputs)
    ]
    chosen = {id(operator): operator for operator in (*products, *pools)}
    narrow = set()
    for operator in selected:
        name = graph.name(operator)
        if id(operator) in chosen or name in NARROW:
            continue
        found = [graph.producer(int(tensor)) for tensor in operator.inputs]
        sources = [source for source in found if source is not None]
        if name in MOVES:
            sizes = name == "GATHER" and graph.shape(operator.outputs[0])[-1] == 1
            wide = sizes or any(id(source) in chosen for source in sources)
        else:
            wide = not any(
                id(source) in narrow
                or (graph.name(source) == "BATCH_MATMUL" and id(source) not in chosen)
                for source in sources
            )
            if not wide:
                narrow.add(id(operator))
        if wide:
            chosen[id(operator)] = operator
    return list(chosen.values())
