"""Any encoder or task as a model of core Keras layers only, whose file loads without this package.

No layer is written a second time. The `call` of each runs on symbolic tensors, so that every
`keras.ops` function becomes an operation of the new model and every core sublayer a layer of it;
`plain_layers` has the few parts that need another form.
"""

import hashlib
import math

import keras
import numpy as np
from keras import ops

from keras_addnorm.layers.shapes import positions
from keras_addnorm.models.encoder import Encoder
from keras_addnorm.models.plain_layers import stand_in
from keras_addnorm.models.task import EncoderTask


def to_plain_keras(model):
    """Rebuilds an encoder or task with core Keras layers only, weights included.

    The `.keras` file of the result loads wherever Keras 3 is, with `safe_mode` on and without this
    package or KerasHub: it holds no class or function of either, and no Lambda layer. Inputs and
    outputs keep their names and structure. Any Keras backend, training, `quantize` and `export`
    work on it as on all functional models.

    The operations of `model` are done in the same order in float32, so outputs are equal bit for
    bit. Three parts have another form, and are equal up to rounding, some 1e-6 of values around 1:
    grouped queries (keys are copied for them), disentangled attention, and ALiBi with a number of
    heads that is no power of 2.

    - The result is float32, whatever the dtype policy of `model`. LoRA factors are merged.
    - Weights that no core layer has, such as the scales of ReZero and LayerScale, are rows of
      `Embedding` layers, and so are constant tables (sines): a file holds them as weights.
    - Dropout is Keras's own, with other random numbers. Power norm is a batch norm of the vectors
      and their negatives, which has the same statistics; a batch that is all padding moves its
      running average, as Keras's batch norm does.
    - Token ids, masks and lengths are no longer checked, and outputs carry no Keras mask; a
      preprocessor and the arguments of `compile` are left behind.

    Args:
        model: a `TransformerEncoder`, an `ImageEncoder`, or a task over one.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: on another model, a quantized one, or one with a part that is neither a core
            layer nor made of `keras.ops` and such layers; the message names it.

    Example:

    ```python
    embedder = keras_addnorm.zoo.from_hugging_face("minilm", task="embed")
    keras_addnorm.models.to_plain_keras(embedder).save("plain.keras")
    # anywhere: keras.saving.load_model("plain.keras")
    ```
    """
    _check(model)
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
    )
    outputs = Trace(keras.tree.flatten(inputs)[0]).run(model, inputs)
    plain = keras.Model(inputs, outputs, name=model.name)
    foreign = sorted(set(_foreign(keras.saving.serialize_keras_object(plain))))
    if foreign:
        raise ValueError(
            "to_plain_keras takes models of which every part is a core Keras layer, or made of "
            f"`keras.ops` and such layers. Received: a {type(model).__name__} with "
            f"{', '.join(foreign)}. Leave these parts out, or import their package to load files."
        )
    return plain


def _check(model):
    if not isinstance(model, (Encoder, EncoderTask)):
        raise ValueError(
            "to_plain_keras takes a TransformerEncoder, an ImageEncoder, or a task over one. "
            f"Received: an object of type {type(model).__name__}. Pass the encoder in it."
        )
    quantized = [layer.path for layer in model._flatten_layers() if layer.quantization_mode]
    if quantized:
        raise ValueError(
            f"to_plain_keras takes float models. Received: {len(quantized)} quantized layers, the "
            f"first {quantized[0]!r}. Rebuild the model as it was before `quantize`, and quantize "
            "the result."
        )


def _foreign(config):
    """The classes and functions in a serialized object that are not Keras's own."""
    if isinstance(config, dict):
        module = config.get("module") or "keras"
        if "class_name" in config and module.split(".")[0] not in ("keras", "builtins"):
            yield f"{module}.{config['class_name']}"
        config = config.values()
    if not isinstance(config, (str, bytes)) and hasattr(config, "__iter__"):
        for value in config:
            yield from _foreign(value)


class Trace:
    """A plain model in the making. Each part of the original has one counterpart, made once.

    Args:
        x: the first symbolic input of the new model.
    """

    def __init__(self, x):
        self._zero = ops.zeros_like(ops.any(x), dtype="int32")  # graphs hold no free constants
        self._made, self._names = {}, set()

    def run(self, model, inputs):
        """The outputs of the functional `model`, as symbolic tensors of the new one."""
        return model._run_through_graph(inputs, operation_fn=self._operation)

    def _operation(self, operation):
        if isinstance(operation, keras.Model):
            return lambda inputs, **kwargs: self.run(operation, inputs)
        if isinstance(operation, keras.Layer):
            return self.layer(operation)
        return type(operation).from_config(operation.get_config())

    def layer(self, layer, owner=""):
        """The counterpart of a layer: a function of symbolic tensors.

        Args:
            layer: the layer.
            owner: the name of the counterpart of the layer that it is in.
        """
        return self._once(id(layer), stand_in, self, layer, f"{owner}{layer.name}")

    def name(self, wanted):
        """A name for a new layer, which no other has."""
        name, count = wanted, 0
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def weight(self, owner, variable):
        """A variable of the layer whose counterpart is called `owner`, as a symbolic tensor."""
        return self._once(id(variable), self._weight, owner, variable)

    def _weight(self, owner, variable):
        row = self._embedding(owner, variable, (1, math.prod(variable.shape)))
        return ops.reshape(row(self._zero), tuple(variable.shape))

    def lookup(self, owner, table, start=0):
        """An `Embedding` of a table's rows from `start` on: a variable, or a constant array."""
        key = id(table)
        if isinstance(table, np.ndarray):  # Layers have tables of their own that are equal.
            key = table.shape, hashlib.sha256(table.tobytes()).digest()
        shape = (table.shape[0] - start, table.shape[1])
        return self._once(key, self._embedding, owner, table, shape, start)

    def positions(self, like):
        """0, 1, ... along axis 1 of a sequence; all sequences of one model are as long."""
        return self._once(("positions", like.shape[1]), positions, like)

    def rows(self, owner, table, like, start=0):
        """The rows of a table for the positions of `like`, `(length, features)`."""
        lookup = self.lookup(owner, table, start)
        return self._once((lookup.name, like.shape[1]), lambda: lookup(self.positions(like)))

    def _embedding(self, owner, values, shape, start=0):
        constant = isinstance(values, np.ndarray)
        name = "table" if constant else values.name
        layer = keras.layers.Embedding(
            *shape, trainable=not constant and values.trainable, name=self.name(f"{owner}_{name}")
        )
        layer.build(())
        values = ops.convert_to_numpy(values).astype("float32")
        layer.embeddings.assign(np.reshape(values[start:] if start else values, shape))
        return layer

    def _once(self, key, make, *args):
        if key not in self._made:
            self._made[key] = make(*args)
        return self._made[key]
