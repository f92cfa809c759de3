"""The kernels of layers: which one reads what, and which one makes the output.

A kernel is told by its `Part` and by the path of the dense layer in it, such as `"query/"`, or
`""` for a `Dense` itself.
"""

import keras
import numpy as np

from keras_addnorm.layers import (
    ALiBi,
    FeedForward,
    Head,
    MultiHeadAttention,
    Projection,
    RelativeEmbedding,
    RelativePositionBias,
)


def _of_attention(part, arguments):
    """Keys are values unless told, and those are queries."""
    given = {name for name in ("query", "value", "key") if arguments.get(name) is not None}
    value = "value" if "value" in given else "query"
    roles = {"query": ["query/"], "value": [], "key": []}
    if "gate/kernel" in part:
        roles["query"].append("gate/")
    roles[value].append("value/")
    roles["key" if "key" in given else value].append("key/")
    projections = part.layer._distances.projections
    return {**roles, **{name: [f"{kernel}/"] for name, kernel in projections.items()}}


def _of_feed_forward(part, arguments):
    return {"x": ["intermediate/", *(["gate/"] if "gate/kernel" in part else [])]}


def _of_head(part, arguments):
    return {"x": ["output/" if part.config["hidden_dim"] is None else "dense/"]}


def _of_shape(part, arguments):
    return {"x": []}


# The kernels that read an argument of the call, by the argument's name; all that do.
_READERS = {
    keras.layers.Dense: lambda part, arguments: {"inputs": [""]},
    FeedForward: _of_feed_forward,
    Head: _of_head,
    MultiHeadAttention: _of_attention,
    Projection: lambda part, arguments: {"x": ["dense/"]},
    ALiBi: _of_shape,
    RelativeEmbedding: _of_shape,
    RelativePositionBias: _of_shape,
}


def reads(graph):
    """Who reads a tensor: dict of lists of `(part, argument, kernel)` by the tensor's id.

    The kernel is None where something else than a kernel reads it, or more than a kernel knows.
    """
    found = {}
    for part in graph.parts:
        roles_of = None if part.is_fixed else _READERS.get(part.cls)
        for call in part.calls:
            roles = {} if roles_of is None else roles_of(part, call.arguments)
            for name, value in call.arguments.items():
                for x in keras.tree.flatten(value):
                    readers = [(part, name, kernel) for kernel in roles.get(name, [None])]
                    found.setdefault(id(x), []).extend(readers)
    return found


def last_kernel(part):
    """The kernel whose product and bias are the first output of a part, or None."""
    if part.is_fixed:
        return None
    if part.cls in (FeedForward, MultiHeadAttention):
        return "output/"
    if part.cls is keras.layers.Dense and part.config["activation"] == "linear":
        return ""
    if part.cls is Projection and part.config["norm"] == "none":
        return "dense/"
    return None


def maker_of(graph, readers, joint):
    """The part whose last kernel makes all branches of a joint, and nothing else; or None."""
    found = {}
    for call in joint.calls:
        maker, index = graph.makers.get(id(call.arguments["y"]), (None, 0))
        if maker is None or index or last_kernel(maker.part) is None:
            return None
        found[id(maker.part)] = maker.part
    if len(found) > 1:
        return None
    part = next(iter(found.values()))
    outputs = {id(call.outputs[0]) for call in part.calls}
    users = [(user, name) for x in outputs for user, name, _ in readers.get(x, [])]
    alone = all(user is joint and name == "y" for user, name in users)
    return part if alone and not outputs & graph.outputs else None


def bias_of(part, kernel):
    """The bias beside a kernel, zeros where there is none."""
    path = f"{kernel}bias"
    return part[path] if path in part else np.zeros(part[f"{kernel}kernel"].shape[-1])


def set_bias(part, kernel, value):
    """Sets the bias beside a kernel, or leaves it out where `value` is None."""
    path, every = f"{kernel}bias", [p for p in part.paths if p.endswith("kernel")]
    every = [p.removesuffix("kernel") for p in every]
    if value is not None:
        part[path] = value
    elif path in part:
        del part[path]
    names = [k.removesuffix("/") for k in every if f"{k}bias" in part]
    if len(names) in (0, len(every)):
        part.config["use_bias"] = len(names) > 0
    else:
        part.config["use_bias"] = names


def scale_outputs(part, kernel, factor, shift=None):
    """The outputs of a kernel times `factor`, a float or `(features,)`, plus `shift`."""
    part[f"{kernel}kernel"] = part[f"{kernel}kernel"] * factor
    if f"{kernel}bias" in part or shift is not None:
        shift = 0.0 if shift is None else shift
        set_bias(part, kernel, bias_of(part, kernel) * factor + shift)


def scale_inputs(part, kernel, factor, shift):
    """What a kernel makes of inputs times `factor` plus `shift`, each None or `(features,)`."""
    path = f"{kernel}kernel"
    if shift is not None and shift.any():
        set_bias(part, kernel, bias_of(part, kernel) + shift @ part[path])
    if factor is not None:
        part[path] = part[path] * np.reshape(factor, (-1, 1))
