"""DINOv2 with registers."""

from tests.zoo.cases.dinov2 import BASE as BASE
from tests.zoo.cases.dinov2 import CHANGED

CASES = {
    "plain": ("Dinov2WithRegistersModel", {}),
    "one register": ("Dinov2WithRegistersModel", {"num_register_tokens": 1}),
    "gated": ("Dinov2WithRegistersModel", {"use_swiglu_ffn": True, "num_register_tokens": 3}),
    "classifier": (
        "Dinov2WithRegistersForImageClassification",
        {**CHANGED, "num_register_tokens": 2},
    ),
    "flat patches": ("Dinov2WithRegistersModel", {"patch_size": [2, 6]}),
    "no bias": ("Dinov2WithRegistersModel", {"qkv_bias": False}),
    "deep": ("Dinov2WithRegistersModel", {"num_hidden_layers": 5}),
}
FIXTURES = ("plain", "classifier")
