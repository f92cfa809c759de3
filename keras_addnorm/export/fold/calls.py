"""A functional model taken apart into layers and their calls, to be changed and built anew."""

import dataclasses
import functools
import inspect
import re

import keras
import numpy as np
from keras.src.backend import get_keras_mask
from keras.src.models.functional import Functional

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.walk import walk
from keras_addnorm.layers import TokenAndPositionEmbedding
from keras_addnorm.layers.dense import values_follow
from keras_addnorm.models.masked_lm import TokenLogits


class Part:
    """What a new layer is going to be: a class, a config, and weights by their path in the layer.

    Weights are read as float64 arrays; those that are set take the place of the layer's own.

    Attributes:
        layer: the layer, or other operation, of the model that was taken apart. Not changed.
        cls, config: what the new layer is made from.
        calls: list of the `Call`s of the layer.
    """

    def __init__(self, layer):
        self.layer, self.cls, self.calls = layer, type(layer), []
        self.config = {k: v for k, v in _config(layer).items() if k != "lora_rank"}
        variables = _variables(layer)
        self._old, self._new = dict(variables), {}
        self._is_told_apart = len(self._old) == len(variables)

    def __contains__(self, path):
        return path in self._new or path in self._old

    def __getitem__(self, path):
        value = self._new[path] if path in self._new else self._old[path]()
        return np.asarray(value, "float64")

    def __setitem__(self, path, value):
        self._new[path] = value

    def __delitem__(self, path):
        self._new.pop(path, None)
        self._old.pop(path, None)

    @property
    def paths(self):
        return [*self._old, *(path for path in self._new if path not in self._old)]

    @property
    def is_fixed(self):
        """Whether it must stay as it is: two weights have one path, or a call is for training."""
        return not self._is_told_apart or any(c.arguments.get("training") for c in self.calls)

    def load(self, layer):
        """Gives the weights to a built layer of `cls`."""
        old, same = _variables(self.layer), self.cls is type(self.layer) and not self._new
        if same and len(old) == len(layer.weights):  # Paths need not be unique.
            values = [value for _, value in old]
        else:
            values = [
                functools.partial(self._new.get, path) if path in self._new else self._old[path]
                for path, _ in _variables(layer)
            ]
        for variable, value in zip(layer.weights, values, strict=True):
            variable.assign(value())


@dataclasses.dataclass
class Call:
    """One call of a layer.

    Attributes:
        part: the layer's `Part`.
        arguments: dict of the arguments of the call by name, with KerasTensors in it.
        outputs: list of KerasTensors.
    """

    part: Part
    arguments: dict
    outputs: list


class Graph:
    """A functional model, the models inside it too, as `Part`s and the tensors between them.

    Args:
        model: a functional Keras model.

    Attributes:
        parts: list of `Part`, one for each layer or other operation, in the order of the graph.
        outputs: the ids of the KerasTensors that the model returns.
    """

    def __init__(self, model):
        self.model, self._parts = model, {}
        inputs = keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, x.dtype, name=x.name), model.input
        )
        self.outputs = {id(x) for x in keras.tree.flatten(walk(model, inputs, self._record))}

    @property
    def parts(self):
        return list(self._parts.values())

    def of(self, *classes):
        """The parts that will be of exactly one of these classes."""
        return [part for part in self.parts if part.cls in classes and not part.is_fixed]

    def _record(self, node, args, kwargs):
        layer = node.operation
        if id(layer) not in self._parts:
            self._parts[id(layer)] = Part(layer)
        part = self._parts[id(layer)]
        arguments = _arguments(layer, args, kwargs)
        outputs = layer.compute_output_spec(*args, **kwargs)
        if isinstance(layer, keras.Layer) and layer.supports_masking:
            first = next(iter(arguments.values()))
            mask = kwargs.get("mask")
            attached = keras.tree.map_structure(get_keras_mask, first) if mask is None else mask
            layer._set_mask_metadata(first, outputs, attached)
        part.calls.append(Call(part, arguments, keras.tree.flatten(outputs)))
        return outputs

    @functools.cached_property
    def makers(self):
        """The `Call` and the index among its outputs that make a tensor, by the tensor's id."""
        return {
            id(x): (call, index)
            for part in self.parts
            for call in part.calls
            for index, x in enumerate(call.outputs)
        }

    def build(self):
        """A new functional model of what the parts are now, with weights of its own."""
        return _Builder(self).build()


class _Builder:
    def __init__(self, graph):
        self.model, self.parts = graph.model, graph._parts
        self.made, self.tables = {}, {}
        # Outputs may be named after layers, and those are layers of the outermost model.
        self.names = {id(op): op.name for op in self.model.operations}

    def build(self):
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), self.model.input
        )
        with values_follow():
            outputs = walk(self.model, inputs, self._call)
        outputs = keras.tree.map_structure(self._named, self.model.output, outputs)
        return keras.Model(inputs, outputs, name=self.model.name)

    def _call(self, node, args, kwargs):
        layer = node.operation
        part = self.parts[id(layer)]
        if id(layer) in self.made:
            return self._run(part, self.made[id(layer)], args, kwargs)
        try:
            new = self._make(part)
            outputs = self._run(part, new, args, kwargs)
            if isinstance(new, keras.Layer):
                part.load(new)
        except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
            raise ExportError(
                f"A model is folded as a copy, and its layer {layer.name!r}, a "
                f"{type(layer).__name__}, cannot be copied from its config. Give it a "
                f"`get_config` with all arguments. Keras says: {error}"
            ) from error
        self.made[id(layer)] = new
        if isinstance(layer, TokenAndPositionEmbedding):
            self.tables[id(layer.token_embedding)] = new.token_embedding
        return outputs

    def _run(self, part, new, args, kwargs):
        if part.cls is not type(part.layer):  # A norm that became another: of its input alone.
            return new(next(iter(_arguments(part.layer, args, kwargs).values())))
        return new(*args, **kwargs)

    def _make(self, part):
        name = self._name(part.layer)
        if part.cls is TokenLogits:  # The table is a sublayer of the embeddings, made before.
            old = part.layer
            table = self.tables[id(old.token_embedding)]
            return TokenLogits(
                table, old.tied_dim, old.use_bias, "zeros", dtype=old.dtype_policy, name=name
            )
        return part.cls.from_config({**part.config, "name": name})

    def _name(self, layer):
        """The layer's own name, or one like it where another layer has it."""
        taken = {value for key, value in self.names.items() if key != id(layer)}
        name, count = layer.name, 0
        while name in taken:
            count += 1
            name = f"{layer.name}_{count}"
        self.names[id(layer)] = name
        return name

    def _named(self, old, new):
        """An output of a model inside the model keeps the name that it has by that model."""
        operation = old._keras_history.operation
        if not isinstance(operation, Functional) or isinstance(self.model.output, dict):
            return new
        if id(operation) not in self.made:
            given = not re.fullmatch(r"functional(_\d+)?", operation.name)
            self.made[id(operation)] = keras.layers.Identity(name=operation.name if given else None)
        return self.made[id(operation)](new)


def _arguments(layer, args, kwargs):
    """The arguments of a call by name. What no layer's `call` takes Keras leaves out too."""
    signature = inspect.signature(layer.call)
    if all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values()):
        kwargs = {k: v for k, v in kwargs.items() if k in signature.parameters}
    return dict(signature.bind(*args, **kwargs).arguments)


def _config(layer):
    try:
        return layer.get_config()
    except (NotImplementedError, TypeError, ValueError):
        return {}  # No rule needs it; what is built without it says so.


def _variables(layer):
    """The weights of a layer: pairs of the path in it and a function that returns the value.

    LoRA factors are merged into the kernels.
    """
    if not isinstance(layer, keras.Layer):
        return []
    merged = {
        id(weight): sublayer
        for sublayer in layer._flatten_layers()
        if getattr(sublayer, "lora_enabled", False)
        for weight in sublayer.weights
    }
    return [
        (weight.path.removeprefix(f"{layer.path}/"), functools.partial(_value, weight, sublayer))
        for weight, sublayer in ((w, merged.get(id(w))) for w in layer.weights)
        if not weight.name.startswith("lora_")
    ]


def _value(weight, sublayer):
    value = weight if sublayer is None else getattr(sublayer, weight.name)
    return keras.ops.convert_to_numpy(value)
