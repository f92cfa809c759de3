"""One .tflite file with a graph for each of several lengths, which share the weights."""

import copy

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.flatbuffer import Graph


def signature_key(length):
    """What the signature of a length is called."""
    return f"length_{length}"


def fix_lengths(data, lengths):
    """Makes a file of any length one of several fixed lengths, with a signature for each.

    Runtimes that cannot resize inputs, such as LiteRT.js, then choose the shortest signature that
    fits. On disk the graphs share all weights; a runtime packs those of each graph that it runs.

    Args:
        data: bytes of a .tflite file with batch size 1 and open lengths.
        lengths: ints, ascending.

    Returns:
        Bytes of the file with signatures `length_<n>`.
    """
    from ai_edge_litert.interpreter import Interpreter

    graph = Graph(data)
    model, source = graph.model, graph.model.subgraphs[0]
    definition = model.signatureDefs[0]
    interpreter = Interpreter(model_content=data)
    model.subgraphs, model.signatureDefs = [], []
    for number, length in enumerate(lengths):
        shapes = _shapes(interpreter, graph, length)
        fixed, signature = copy.copy(source), copy.copy(definition)
        fixed.name = signature_key(length).encode()
        fixed.tensors = [_fixed(t, shapes.get(i)) for i, t in enumerate(source.tensors)]
        signature.signatureKey, signature.subgraphIndex = signature_key(length), number
        model.subgraphs.append(fixed)
        model.signatureDefs.append(signature)
    return graph.to_bytes()


def _shapes(interpreter, graph, length):
    """Shapes by tensor index, after all inputs were resized to a length."""
    for tensor in graph.inputs:
        shape = [length if size is None else size for size in graph.shape(tensor)]
        interpreter.resize_tensor_input(int(tensor), shape)
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"LiteRT cannot give the file the length {length}: {error}") from error
    return {x["index"]: x["shape"] for x in interpreter.get_tensor_details()}


def _fixed(tensor, shape):
    fixed = copy.copy(tensor)
    if tensor.shapeSignature is not None and shape is not None:
        fixed.shape, fixed.shapeSignature = np.asarray(shape, "int32"), None
    return fixed
