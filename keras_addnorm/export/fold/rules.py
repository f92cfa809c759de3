"""Constants of a model folded into its kernels, so that an exported graph has fewer operations."""

import collections
import dataclasses

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from keras.src.models.functional import Functional

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.fold.affine import AFFINE, NORM_CLASSES, norm_of
from keras_addnorm.export.fold.calls import Graph
from keras_addnorm.export.fold.centering import center_streams
from keras_addnorm.export.fold.kernels import (
    bias_of,
    last_kernel,
    maker_of,
    reads,
    scale_inputs,
    scale_outputs,
    set_bias,
)
from keras_addnorm.layers import (
    AddNorm,
    Head,
    MultiHeadAttention,
    Projection,
    TokenAndPositionEmbedding,
)


@dataclasses.dataclass(frozen=True)
class Folded:
    """What `fold` returns.

    Attributes:
        model: the folded model, a functional `keras.Model`.
        rules: how often each rule of `RULES` was applied, by its name.
    """

    model: keras.Model
    rules: dict[str, int]


def fold(model):
    """Folds what is constant at inference into the kernels of a copy of a model.

    In exact arithmetic the outputs are the same, in float32 the same up to rounding. One case is
    left out of account: a sequence of padding only, with no key that may be attended to, and in a
    sliding window a padded position that sees padding only. Attention gives its output bias there;
    the value bias is in that bias afterwards. No unpadded position is touched by it.

    Args:
        model: a functional float32 Keras model; models inside it are taken apart. Layers that are
            not of this package or of core Keras are copied as they are. It is not changed.

    Returns:
        A `Folded`. Its model has inputs and outputs of the same names, weights of its own, and
        layers that their configs describe, so it can be saved, if the model could. It is for
        inference: running averages are constants in it.

    Raises:
        ExportError: if the model is not functional, or a layer cannot be copied from its config.

    Example:

    ```python
    embedder = keras_addnorm.zoo.from_hugging_face("minilm", task="embed")
    folded = fold(embedder)
    folded.rules["key_bias"]  # 6
    ```
    """
    _check(model)
    graph = Graph(model)
    counts = {name: rule(graph) for name, rule in RULES.items()}
    return Folded(graph.build(), counts)


def _check(model):
    if not isinstance(model, Functional):
        raise ExportError(
            "Folding takes a model of the functional API. "
            f"Received: an object of type {type(model).__name__}. Wrap it: "
            "keras.Model(inputs, model(inputs)) with inputs = keras.Input(...)."
        )
    for inner in (x for x in model._flatten_layers() if isinstance(x, Functional)):
        owner = next(cls for cls in type(inner).__mro__ if "call" in vars(cls))
        if owner.__module__.split(".")[0] not in ("keras", "keras_hub", "keras_addnorm"):
            raise ExportError(
                "Folding takes functional models that compute what their graph says. Received: "
                f"{inner.name!r}, whose class {owner.__name__} has a `call` of its own. Wrap it: "
                "keras.Model(model.input, model.output)."
            )


# === Norms into the kernels after them ===


def norms_into_readers(graph):
    """Scale and shift of a norm go into the kernels that read its output, if nothing else does.

    norm(x) W + b = core(x) (scale * W) + (shift W + b). A norm with constant statistics has no
    core, so all of it goes.
    """
    readers, sources = reads(graph), collections.defaultdict(set)
    for tensor, found in readers.items():
        for part, _, kernel in found:
            sources[id(part), kernel].add(tensor)
    count = 0
    for norm in _norms(graph):
        made = {id(call.outputs[0]) for call in norm.part.calls}
        found = {(id(p), k): p for x in made for p, _, k in readers.get(x, [(None, None, None)])}
        whole = all(k is not None and sources[p, k] <= made for p, k in found)
        if made & graph.outputs or not whole or norm.is_bare:
            continue
        for (_, kernel), part in found.items():
            scale_inputs(part, kernel, norm.scale, norm.shift)
        norm.strip()
        count += 1
    return count


def _norms(graph):
    """The norms that make the first output of their part."""
    found = [norm_of(part, "norm") for part in graph.of(AddNorm)]
    for part in graph.of(*NORM_CLASSES.values()):
        first = [next(iter(call.arguments), None) in ("x", "inputs") for call in part.calls]
        masked = any(call.arguments.get("mask") is not None for call in part.calls)
        if all(first) and not masked:
            found.append(norm_of(part))
    return [norm for norm in found if norm is not None]


# === Norms with constant statistics into the kernels before them ===


def norms_into_projections(graph):
    """Norms with constant statistics go into the dense layer of their `Projection`."""
    norms = [norm_of(part, "norm") for part in graph.of(Projection)]
    return sum(_into_kernel(norm, norm.part, "dense/") for norm in norms if norm is not None)


def norms_of_heads(graph):
    """Scale and shift of the norm in a `Head` go into its last layer."""
    count = 0
    for part in graph.of(Head):
        norm = norm_of(part, "norm")
        if norm is not None and part.config["output_dim"] is not None and not norm.is_bare:
            scale_inputs(part, "output/", norm.scale, norm.shift)
            norm.strip()
            count += 1
    return count


def branch_norms(graph):
    """Norms of branches with constant statistics go into the kernel that makes the branch."""
    readers, count = reads(graph), 0
    for part in graph.of(AddNorm):
        norm, maker = norm_of(part, "branch_norm", "branch_norm"), maker_of(graph, readers, part)
        if norm is not None and maker is not None:
            count += _into_kernel(norm, maker, last_kernel(maker))
    return count


def _into_kernel(norm, part, kernel):
    if norm.cls not in AFFINE:
        return 0
    scale_outputs(part, kernel, 1.0 if norm.scale is None else norm.scale, norm.shift)
    norm.strip()
    return 1


def running_statistics(graph):
    """The norms with running averages that are left become one product and one sum."""
    norms = [
        *_norms(graph),
        *(norm_of(part, "branch_norm", "branch_norm") for part in graph.of(AddNorm)),
        *(norm_of(part, "embedding_norm") for part in graph.of(TokenAndPositionEmbedding)),
    ]
    running = [norm for norm in norms if norm is not None and norm.cls in AFFINE[:2]]
    for norm in running:
        norm.to_affine()
    return len(running)


# === Scales of joints ===


def branch_scales(graph):
    """The scale of a branch goes into the norm of the branch, or the kernel that makes it."""
    readers, count = reads(graph), 0
    for part in graph.of(AddNorm):
        if part.config["branch_scale"] is None:
            continue
        if _scale_branch(graph, readers, part, part["branch_scale"]):
            part.config.update(branch_scale=None, branch_scale_axis=None)
            del part["branch_scale"]
            count += 1
    return count


def residual_scales(graph):
    """DeepNorm's scale of the stream goes: it divides the branch, and its square the epsilon.

    norm(a x + y; epsilon) = norm(x + y / a; epsilon / a^2), where the norm divides by a root.
    """
    readers, count = reads(graph), 0
    for part in graph.of(AddNorm):
        config = part.config
        scale, root = config["residual_scale"], config["norm"] in _DIVIDE_BY_A_ROOT
        own_epsilon = not isinstance(config["branch_norm"], str) or (
            config["branch_norm"] in ("none", "affine", "dynamic_tanh")
        )
        if scale in (0.0, 1.0) or scale < 0 or config["return_sum"] or not (root and own_epsilon):
            continue
        if _scale_branch(graph, readers, part, 1.0 / scale):
            config.update(residual_scale=1.0, epsilon=config["epsilon"] / scale**2)
            count += 1
    return count


_DIVIDE_BY_A_ROOT = ("layer_norm", "layer_norm_no_bias", "rms_norm")


def _scale_branch(graph, readers, joint, factor):
    if joint.config["branch_norm"] != "none":
        norm = norm_of(joint, "branch_norm", "branch_norm")
        return norm is not None and norm.multiply(factor)
    maker = maker_of(graph, readers, joint)
    if maker is None:
        return False
    scale_outputs(maker, last_kernel(maker), factor)
    return True


# === Attention ===


def value_biases(graph):
    """The bias of the values goes through the output kernel: probabilities sum to 1."""
    count = 0
    for part in graph.of(MultiHeadAttention):
        if "value/bias" not in part or part.config["use_gate"]:
            continue
        if not all(_every_query_attends(part, call.arguments) for call in part.calls):
            continue
        kv_heads = part.config["num_key_value_heads"]
        bias = np.reshape(part["value/bias"], (kv_heads, -1))
        bias = np.repeat(bias, part.config["num_heads"] // kv_heads, axis=0).reshape(-1)
        set_bias(part, "output/", bias_of(part, "output/") + bias @ part["output/kernel"])
        set_bias(part, "value/", None)
        count += 1
    return count


def _every_query_attends(part, arguments):
    """Whether each query attends to a key, wherever there is an unpadded one.

    With masks of keys alone, and among its own keys only: a query that is not padding sees itself.
    """
    query = arguments["query"]
    if any(arguments.get(name) is not None for name in ("query_mask", "attention_mask")):
        return False
    if get_keras_mask(query) is not None:  # A masked query attends to nothing.
        return False
    keys = _keys(arguments)
    band = part.config["sliding_window"] is not None or arguments.get("use_causal_mask")
    return keys is query or not band


def _keys(arguments):
    return next(x for x in map(arguments.get, ("key", "value", "query")) if x is not None)


def key_biases(graph):
    """The bias of the keys goes: it adds the same to all scores of a query.

    Not where keys are normalized or rotated, or are compared with vectors of distances. Nor where
    a dense layer makes what they are made of: converters move its bias into this one.
    """
    count = 0
    for part in graph.of(MultiHeadAttention):
        distances = (part.config["disentangled"] or {"terms": []}).get("terms", ["p2c"])
        changed = part.config["rotary"] is not None or part.config["qk_norm"] is not None
        makers = [graph.makers.get(id(_keys(call.arguments))) for call in part.calls]
        dense = any(maker and last_kernel(maker[0].part) is not None for maker in makers)
        if "key/bias" in part and not (changed or dense or "p2c" in distances):
            set_bias(part, "key/", None)
            count += 1
    return count


def score_scales(graph):
    """The scale of the scores goes into the kernel of the queries, or the norm of the queries."""
    count = 0
    for part in graph.of(MultiHeadAttention):
        layer, scale = part.layer, part.layer._scale
        if scale == 1.0:
            continue
        if part.config["qk_norm"] not in (None, "none"):
            norm = norm_of(part, "qk_norm", "query_norm")
            if norm is None or not norm.multiply(scale):
                continue
        else:
            scale_outputs(part, "query/", scale)
        if layer._distances.projections.get("relative_queries") == "relative_query":
            scale_outputs(part, "relative_query/", scale)
        part.config["scale"] = 1.0
        count += 1
    return count


# In this order: what one rule leaves in a kernel or a bias, a later one moves on.
RULES = {
    "norm_into_readers": norms_into_readers,
    "norm_into_projection": norms_into_projections,
    "norm_of_head": norms_of_heads,
    "branch_norm": branch_norms,
    "running_statistics": running_statistics,
    "branch_scale": branch_scales,
    "residual_scale": residual_scales,
    "centering": center_streams,
    "value_bias": value_biases,
    "key_bias": key_biases,
    "score_scale": score_scales,
}
