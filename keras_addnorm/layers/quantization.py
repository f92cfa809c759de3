"""What a layer's config must say once its sublayers were quantized."""

import keras


def layer_config(layer, config):
    """Returns `config`, its `dtype` telling the policies of the quantized sublayers by path.

    `quantize` gives each sublayer a policy of its own. A composite layer builds its sublayers
    from its own `dtype`, so without this a quantized model is saved but cannot be loaded.
    """
    policy, quantized = layer.dtype_policy, quantized_policies(layer)
    if not quantized or isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return config
    policies = keras.dtype_policies.DTypePolicyMap(policy, quantized)
    return {**config, "dtype": keras.dtype_policies.serialize(policies)}


def quantized_policies(*layers):
    """The dtype policies of the quantized layers in `layers`, by path."""
    return {
        sublayer.path: sublayer.dtype_policy
        for layer in layers
        for sublayer in layer._flatten_layers(include_self=False)
        if sublayer.quantization_mode is not None
    }


def int4_config(policy, path):
    """The config of a sublayer whose dtype policy is int4 from the start, because it was saved so.

    Without it Keras's tied table rounds the input of the logits too, and `quantize("int4")` does
    not. Returns None for other policies.
    """
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        policy = policy[path]
    if policy.quantization_mode != "int4":
        return None
    return keras.quantizers.Int4QuantizationConfig(block_size=policy.block_size)
