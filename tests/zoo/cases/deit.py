"""DeiT."""

from tests.zoo.cases.vit import BASE as BASE
from tests.zoo.cases.vit import CHANGED

CASES = {
    "plain": ("DeiTModel", {}),
    "changed": ("DeiTModel", {**CHANGED, "pooler_act": "gelu"}),
    "classifier": ("DeiTForImageClassification", CHANGED),
    "teacher": ("DeiTForImageClassificationWithTeacher", {"num_labels": 3}),
    "masked images": ("DeiTForMaskedImageModeling", {"encoder_stride": 4}),
    "relu, wide": ("DeiTModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "no bias": ("DeiTModel", {"qkv_bias": False}),
    "high images": ("DeiTModel", {"image_size": [20, 8]}),
    "deep": ("DeiTModel", {"num_hidden_layers": 5}),
}
FIXTURES = ("plain", "teacher")

_HUB = {"num_layers": 2, "num_heads": 4, "hidden_dim": 16, "intermediate_dim": 24}
HUB = [
    {**_HUB, "image_shape": (12, 12, 3), "patch_size": 4},
    {
        **_HUB,
        "image_shape": (8, 12, 2),
        "patch_size": (4, 2),
        "layer_norm_epsilon": 1e-3,
        "use_mha_bias": False,
        "dropout_rate": 0.1,
        "attention_dropout": 0.2,
    },
]
