"""Layers against the same parts of transformers: `make parity`."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.activations import ACT2FN  # noqa: E402
from transformers.models.dinov2_with_registers import (  # noqa: E402
    modeling_dinov2_with_registers as dinov2,
)
from transformers.models.modernbert import modeling_modernbert as modernbert  # noqa: E402
from transformers.models.vit import modeling_vit as vit  # noqa: E402

from keras_addnorm.layers import FeedForward, PatchEmbedding  # noqa: E402
from keras_addnorm.layers.activations import ACTIVATIONS  # noqa: E402
from tests.common import to_numpy  # noqa: E402

# The names of transformers for ours; those it lacks are torch's.
THEIRS = {
    "elu": torch.nn.functional.elu,
    "gelu_tanh": ACT2FN["gelu_pytorch_tanh"],
    "hard_silu": torch.nn.functional.hardswish,
    "relu_squared": ACT2FN["relu2"],
}
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    x = np.linspace(-30.0, 30.0, 2001, dtype="float32")
    function = THEIRS.get(name) or ACT2FN[name]
    expected = function(torch.from_numpy(x)).numpy()
    # Both are float32: a few units of 6e-8 relative to x.
    np.testing.assert_allclose(to_numpy(ACTIVATIONS[name](x)), expected, rtol=2e-6, atol=2e-6)


def randomized(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator) + 0.1)
    return module.eval()


def numbers(parameter):
    return parameter.detach().numpy()


@pytest.mark.parametrize("fused", [False, True])
def test_modernbert_feed_forward(fused):
    config = transformers.ModernBertConfig(**SIZES, intermediate_size=24)
    theirs = randomized(modernbert.ModernBertMLP(config))
    ours = FeedForward(24, "gelu", use_bias=False, gated=True, fused=fused)
    ours.build((None, None, 16))
    kernel = numbers(theirs.Wi.weight).T  # [gate, value]
    if fused:
        ours.intermediate_dense.kernel.assign(kernel)
    else:
        ours.gate_dense.kernel.assign(kernel[:, :24])
        ours.intermediate_dense.kernel.assign(kernel[:, 24:])
    ours.output_dense.kernel.assign(numbers(theirs.Wo.weight).T)
    x = np.random.default_rng(0).normal(size=(2, 5, 16)).astype("float32")
    expected = numbers(theirs(torch.from_numpy(x)))
    # Sums of 24 products of up to 10, in float32 and in another order.
    np.testing.assert_allclose(to_numpy(ours(x)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("registers", [0, 4])
def test_vision_embeddings(registers):
    image = {"image_size": 12, "patch_size": 4, "num_channels": 3}
    if registers:
        config = transformers.Dinov2WithRegistersConfig(
            **SIZES, **image, num_register_tokens=registers
        )
        theirs = randomized(dinov2.Dinov2WithRegistersEmbeddings(config))
    else:
        theirs = randomized(vit.ViTEmbeddings(transformers.ViTConfig(**SIZES, **image)))
    ours = PatchEmbedding(4, 16, num_register_tokens=registers)
    ours.build((None, 12, 12, 3))
    projection = theirs.patch_embeddings.projection
    ours.projection.kernel.assign(numbers(projection.weight).transpose(2, 3, 1, 0))
    ours.projection.bias.assign(numbers(projection.bias))
    ours.class_tokens.assign(numbers(theirs.cls_token)[0])
    ours.position_embeddings.assign(numbers(theirs.position_embeddings)[0])
    if registers:
        ours.register_tokens.assign(numbers(theirs.register_tokens)[0])
    x = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype("float32")
    expected = numbers(theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())))
    difference = np.abs(to_numpy(ours(x)) - expected).max()
    print(f"largest difference: {difference:.2e}")
    # Sums of 48 products of size 1 in another order: some units of 6e-8 in values of up to 15.
    assert difference <= 1e-5
