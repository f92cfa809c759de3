"""DINOv2."""

BASE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "mlp_ratio": 2,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
}
CHANGED = {
    "num_attention_heads": 2,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-3,
    "qkv_bias": False,
    "image_size": 8,
    "patch_size": [4, 2],
    "num_channels": 2,
    "mlp_ratio": 3,
    "layerscale_value": 0.1,
    "drop_path_rate": 0.2,
}
CASES = {
    "plain": ("Dinov2Model", {}),
    "gated": ("Dinov2Model", {"use_swiglu_ffn": True, "layerscale_value": 0.5}),
    "gated, three": ("Dinov2Model", {"use_swiglu_ffn": True, "mlp_ratio": 3}),
    "gated, five": ("Dinov2Model", {"use_swiglu_ffn": True, "mlp_ratio": 5, "hidden_size": 24}),
    "classifier": ("Dinov2ForImageClassification", CHANGED),
    "backbone": ("Dinov2Model", {"out_indices": [1, 2], "apply_layernorm": False}),
    "no mask token": ("Dinov2Model", {"use_mask_token": False}),
    "ratio one": ("Dinov2Model", {"mlp_ratio": 1}),
    "relu": ("Dinov2Model", {"hidden_act": "relu"}),
    "large epsilon": ("Dinov2Model", {"layer_norm_eps": 1e-1}),
    "one head": ("Dinov2Model", {"num_attention_heads": 1}),
    "no bias": ("Dinov2Model", {"qkv_bias": False}),
    "flat patches": ("Dinov2Model", {"patch_size": [2, 6]}),
    "gray": ("Dinov2Model", {"num_channels": 1}),
    "deep": ("Dinov2Model", {"num_hidden_layers": 5}),
}
FIXTURES = ("plain", "gated")

_HUB = {
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "patch_size": 4,
    "image_shape": (8, 8, 3),
    "position_embedding_shape": (12, 12, 3),
}
HUB = [
    _HUB,
    {**_HUB, "position_embedding_shape": (8, 8, 3), "use_mask_token": False, "name": "named"},
    {**_HUB, "num_register_tokens": 3, "antialias_in_interpolation": True, "dropout_rate": 0.1},
    {**_HUB, "use_swiglu_ffn": True, "drop_path_rate": 0.1, "image_shape": (8, 8, 1)},
]
