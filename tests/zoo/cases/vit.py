"""ViT."""

BASE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
}
# Square images in square patches of all sizes but the default, and not square at all.
CHANGED = {
    "num_attention_heads": 2,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-3,
    "qkv_bias": False,
    "image_size": [8, 12],
    "patch_size": [4, 2],
    "num_channels": 2,
}
CASES = {
    "plain": ("ViTModel", {}),
    "changed": ("ViTModel", {**CHANGED, "pooler_act": "gelu"}),
    "classifier": ("ViTForImageClassification", CHANGED),
    "labels": ("ViTForImageClassification", {"id2label": {0: "cat", 1: "dog", 2: "mat"}}),
    "one class": ("ViTForImageClassification", {"num_labels": 1}),
    "masked images": ("ViTForMaskedImageModeling", {"encoder_stride": 4}),
    "relu, wide": ("ViTModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "silu": ("ViTModel", {"hidden_act": "silu"}),
    "large epsilon": ("ViTModel", {"layer_norm_eps": 1e-1}),
    "one head": ("ViTModel", {"num_attention_heads": 1}),
    "no bias": ("ViTModel", {"qkv_bias": False}),
    "high images": ("ViTModel", {"image_size": [20, 8]}),
    "flat patches": ("ViTModel", {"patch_size": [2, 6]}),
    "one patch": ("ViTModel", {"patch_size": 12}),
    "gray": ("ViTModel", {"num_channels": 1}),
    "linear pooler": ("ViTModel", {"pooler_act": "relu", "pooler_output_size": 16}),
    "deep": ("ViTModel", {"num_hidden_layers": 5}),
    "pair": ("ViTModel", {"image_size": [12, 12], "patch_size": [4, 4]}),
}
FIXTURES = ("plain", "changed", "labels")

_HUB = {"num_layers": 2, "num_heads": 4, "hidden_dim": 16, "mlp_dim": 24}
HUB = [
    {**_HUB, "image_shape": (12, 12, 3), "patch_size": 4},
    {
        **_HUB,
        "image_shape": (8, 12, 2),
        "patch_size": (4, 2),
        "layer_norm_epsilon": 1e-3,
        "use_mha_bias": False,
        "use_patch_bias": False,
        "dropout_rate": 0.1,
        "attention_dropout": 0.2,
    },
    {**_HUB, "image_shape": (8, 8, 3), "patch_size": 4, "use_class_token": False},
    {**_HUB, "image_shape": (8, 8, 3), "patch_size": 4, "use_mlp_bias": False},
]
