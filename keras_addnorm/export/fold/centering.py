"""The mean that layer norms subtract, taken out of the weights that make the stream.

    layer_norm(x) = rms_norm(x - mean(x))

Where a stream that is summed from branches (pre-norm) is only ever read by layer norms, its mean
over the features is never seen. Everything that is added to the stream can have mean zero, by
weights of mean zero, and then the layer norms are RMS norms of the same epsilon.

Source: Ashkboos et al., arXiv:2401.15024, section 3.
"""

import dataclasses

import keras
import numpy as np
from keras.src.backend import get_keras_mask

from keras_addnorm.export.fold.affine import norm_of
from keras_addnorm.export.fold.kernels import last_kernel, maker_of, reads
from keras_addnorm.layers import AddNorm, PatchEmbedding, TokenAndPositionEmbedding


@dataclasses.dataclass
class Stream:
    """A stream from embeddings on.

    Attributes:
        joints: list of the parts that add to it.
        norms: list of every `Norm` that reads it.
    """

    joints: list
    norms: list


def center_streams(graph):
    """Makes layer norms RMS norms where the stream can have mean zero; how many."""
    readers, count = reads(graph), 0
    for part in graph.of(PatchEmbedding, TokenAndPositionEmbedding):
        paths, stream = _last_weights(graph, part), _follow(graph, readers, part)
        if not paths or stream is None:
            continue
        makers = [maker_of(graph, readers, joint) for joint in stream.joints]
        norms = [norm for norm in stream.norms if norm.shift is None or not norm.shift.any()]
        if None in makers or not norms:
            continue
        _center(part, paths)
        for maker in makers:
            _center(maker, [f"{last_kernel(maker)}{name}" for name in ("kernel", "bias")])
        for norm in norms:
            scale = norm.scale
            norm.replace(keras.layers.RMSNormalization, {"epsilon": norm.options["epsilon"]})
            norm.set(np.ones(part.config["embedding_dim"]) if scale is None else scale, None)
        count += len(norms)
    return count


def _center(part, paths):
    for path in paths:
        if path in part:
            part[path] = part[path] - part[path].mean(axis=-1, keepdims=True)


def _last_weights(graph, part):
    """The paths of the weights whose sum embeddings are; [] where they are not such a sum."""
    if len(part.calls) > 1:
        return []
    if part.cls is PatchEmbedding:
        return part.paths
    config = part.config
    if config["token_embedding_dim"] is not None and config["projection_window"] is None:
        normed = config["project_first"] and config["embedding_norm"] is not False
        return [] if normed else ["projection/kernel", "projection/bias"]
    if config["embedding_norm"] is not False or config["position"] == "sinusoidal":
        return []
    tables = [path for path in part.paths if not path.startswith("token_embedding/")]
    if config["projection_window"] is not None:
        return tables
    return [] if _shares_weights(graph, part) else part.paths


def _shares_weights(graph, part):
    """Whether another layer has a weight of this one, as the logits of a masked LM do."""
    own = {id(weight) for weight in part.layer.weights}
    others = (p.layer for p in graph.parts if p is not part and isinstance(p.layer, keras.Layer))
    return any(id(weight) in own for layer in others for weight in layer.weights)


def _follow(graph, readers, part):
    """The `Stream` that starts with a part's output, or None if something else reads it."""
    tensors, joints, norms = [part.calls[0].outputs[0]], [], []
    for x in tensors:  # It grows meanwhile.
        if id(x) in graph.outputs:
            return None
        for reader, name, _ in readers.get(id(x), []):
            norm = _norm_of_reader(reader, name, x)
            if norm is None:
                return None
            if all(reader is not other.part for other in norms):
                norms.append(norm)
                if reader.cls is AddNorm:
                    joints.append(reader)
                    tensors += [call.outputs[1] for call in reader.calls]
    seen = {id(x) for x in tensors}
    inputs = [x for norm in norms for call in norm.part.calls for x in _first(call)]
    return Stream(joints, norms) if all(id(x) in seen for x in inputs) else None


def _first(call):
    return [next(iter(call.arguments.values()))]


def _norm_of_reader(part, name, x):
    """The layer norm through which a part reads the stream, or None."""
    if part.is_fixed:
        return None
    if part.cls is AddNorm:
        config = part.config
        scaled = config["branch_scale_axis"] is not None or config["branch_norm"] != "none"
        if name != "x" or scaled or not config["return_sum"]:
            return None
        norm = norm_of(part, "norm")
    else:  # Keras's RMS norm does not hand masks on.
        norm = norm_of(part) if name == "inputs" and get_keras_mask(x) is None else None
    return norm if norm is not None and norm.cls is keras.layers.LayerNormalization else None
