"""DeiT."""

from tests.zoo.cases.vit import BASE as BASE
from tests.zoo.cases.vit import CHANGED

CASES = {
    "plain": ("DeiTModel", {}),
    "changed": ("DeiTModel", {**CHANGED, "pooler_act": "gelu"}),
    "classifier": ("DeiTForImageClassification", CHANGED),
    "teacher": ("DeiTForImageClassificationWithTeacher", {}),
    "masked images": ("DeiTForMaskedImageModeling", {"encoder_stride": 4}),
    "relu, wide": ("DeiTModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "no bias": ("DeiTModel", {"qkv_bias": False}),
    "high images": ("DeiTModel", {"image_size": [20, 8]}),
    "deep": ("DeiTModel", {"num_hidden_layers": 5}),
}
FIXTURES = ("plain",)
