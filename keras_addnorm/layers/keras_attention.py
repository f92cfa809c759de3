"""Copying attention layers from and to Keras's own."""

import keras
from keras import ops

PROJECTIONS = ("query", "key", "value", "gate", "output")


def from_keras(cls, layer):
    """A `cls` (our attention) like a built Keras attention layer, weights included."""
    if not layer.built:
        raise ValueError(
            "MultiHeadAttention.from_keras copies weights, so the layer must be built. "
            f"Received: the unbuilt layer {layer.name!r}. Call it on data once."
        )
    config = layer.get_config()
    grouped = isinstance(layer, keras.layers.GroupQueryAttention)
    sources = _projections(layer, grouped)
    more_axes = sources["query"].equation.split(",")[0] not in ("abc", "bqm")
    if more_axes or len(sources["output"].kernel.shape) != 3:
        raise ValueError(
            "MultiHeadAttention attends over the one axis of (batch, length, features). "
            f"Received: a layer with attention_axes={config.get('attention_axes')} and "
            f"output_shape={config.get('output_shape')}."
        )
    output_shape = config.get("output_shape")
    names = ("use_bias", "dropout", "name", "dtype", "sliding_window")
    arguments = {name: config[name] for name in names}
    if grouped:
        arguments["num_key_value_heads"] = config["num_key_value_heads"]
    new = cls(
        config["num_query_heads" if grouped else "num_heads"],
        key_dim=config["head_dim" if grouped else "key_dim"],
        value_dim=config["head_dim" if grouped else "value_dim"],
        output_dim=output_shape[0] if output_shape else None,
        use_gate=config["use_gate"],
        **arguments,
    )
    _build_and_copy(sources, new)
    return new


def to_keras(layer):
    """A built Keras attention layer like our `layer`, weights included."""
    if not layer.built:
        raise ValueError(
            "MultiHeadAttention.to_keras copies weights, so the layer must be built. "
            f"Received: the unbuilt layer {layer.name!r}. Call it on data once."
        )
    config = layer.get_config()
    beyond = [name for name in ("rotary", "qk_norm", "disentangled") if config[name] is not None]
    grouped = layer.num_key_value_heads != layer.num_heads
    if not isinstance(layer.use_bias, bool):
        beyond.append("use_bias")
    if grouped and (layer._value_dim != layer._key_dim or layer.output_dim is not None):
        beyond.append("value_dim and output_dim with num_key_value_heads")
    if beyond:
        raise ValueError(
            "Keras's attention layers have no counterpart of every option. "
            f"Received: a layer that sets {', '.join(beyond)}. Convert one without."
        )
    common = {
        "use_bias": layer.use_bias,
        "dropout": layer.dropout,
        "dtype": layer.dtype_policy,
        "name": layer.name,
        "use_gate": layer.use_gate,
        "sliding_window": layer.sliding_window,
    }
    if grouped:
        heads = (layer.num_heads, layer.num_key_value_heads)
        new = keras.layers.GroupQueryAttention(layer._key_dim, *heads, **common)
    else:
        new = keras.layers.MultiHeadAttention(
            layer.num_heads,
            layer._key_dim,
            value_dim=layer._value_dim,
            output_shape=layer.output_dim,
            **common,
        )
    _build_and_copy(_projections(layer, False), new, grouped)
    if layer.scale is not None:
        query = _projections(new, grouped)["query"]
        for weight in query.weights:  # Keras divides by sqrt(key_dim), whatever the kernels hold.
            weight.assign(ops.multiply(weight, layer.scale * layer._key_dim**0.5))
    return new


def _projections(layer, private):
    """The dense sublayers of an attention layer by the name of the projection."""
    dense = {name: getattr(layer, f"{'_' * private}{name}_dense", None) for name in PROJECTIONS}
    gate = dense["gate"] or getattr(layer, "_gate_dense", None)
    return {name: value for name, value in {**dense, "gate": gate}.items() if value is not None}


def _build_and_copy(sources, new, private=False):
    """Builds `new` for the features of the `sources` and copies all weights, reshaped."""
    widths = {name: sources[name].kernel.shape[0] for name in ("query", "key", "value")}
    new.build(*((None, None, widths[name]) for name in ("query", "value", "key")))
    targets = _projections(new, private)
    for name, old in sources.items():
        target = targets[name]
        target.kernel.assign(ops.reshape(old.kernel, target.kernel.shape))
        if old.bias is not None:
            target.bias.assign(ops.reshape(old.bias, target.bias.shape))
