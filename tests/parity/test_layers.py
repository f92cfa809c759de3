"""Layers against the same parts of transformers: `make parity`."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.activations import ACT2FN  # noqa: E402
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta_v2  # noqa: E402
from transformers.models.dinov2_with_registers import (  # noqa: E402
    modeling_dinov2_with_registers as dinov2,
)
from transformers.models.modernbert import modeling_modernbert as modernbert  # noqa: E402
from transformers.models.mpnet import modeling_mpnet as mpnet  # noqa: E402
from transformers.models.vit import modeling_vit as vit  # noqa: E402

from keras_addnorm.layers import (  # noqa: E402
    FeedForward,
    MultiHeadAttention,
    PatchEmbedding,
    RelativeEmbedding,
)
from keras_addnorm.layers.activations import ACTIVATIONS  # noqa: E402
from keras_addnorm.layers.position_bias import relative_buckets  # noqa: E402
from keras_addnorm.layers.relative_embedding import distance_rows  # noqa: E402
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


@pytest.mark.parametrize("bucket_size", [2, 3, 5, 8, 31, 32, 128, 256, 320, 512])
def test_deberta_buckets(bucket_size):
    """Bit by bit, also where float32 rounding decides on which side of a border a distance is."""
    distance = torch.arange(-1100, 1101)
    for max_distance in (bucket_size // 2 + 2, bucket_size, 33, 65, 257, 512, 513, 1024, 4096):
        if bucket_size < 2 * (max_distance - 1):
            theirs = deberta_v2.make_log_bucket_position(distance, bucket_size, max_distance)
            rows = torch.clamp(theirs.long() + bucket_size, 0, 2 * bucket_size - 1)
            ours = distance_rows(distance.numpy(), bucket_size, max_distance)
            np.testing.assert_array_equal(ours, rows.numpy())


def test_mpnet_buckets():
    """All distances; T5's encoder has the same."""
    distance = torch.arange(-1100, 1101)
    theirs = mpnet.MPNetEncoder.relative_position_bucket(distance).numpy()
    np.testing.assert_array_equal(relative_buckets(1101, 32, 128), theirs)


@pytest.mark.parametrize("terms", [["c2p"], ["p2c"], ["c2p", "p2c"]], ids="+".join)
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize(("bucket_size", "max_distance"), [(8, 32), (None, 9), (None, 64)])
def test_deberta_attention(terms, share, bucket_size, max_distance):
    config = transformers.DebertaV2Config(
        **SIZES,
        relative_attention=True,
        share_att_key=share,
        pos_att_type=terms,
        position_buckets=bucket_size or -1,
        max_relative_positions=max_distance,
    )
    theirs = randomized(deberta_v2.DisentangledSelfAttention(config))
    ours = MultiHeadAttention(2, disentangled={"terms": terms, "share_projections": share})
    relative = RelativeEmbedding(bucket_size, max_distance, norm="none")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 40, 16)).astype("float32")
    ours(x, **relative(x))
    table = rng.normal(size=relative.relative_embeddings.shape).astype("float32")
    relative.relative_embeddings.assign(table)
    names = {"relative_key": "pos_key_proj", "relative_query": "pos_query_proj"}
    for name in ("query", "key", "value", *names):
        mine = getattr(ours, f"{name}_dense", None)
        source = getattr(theirs, names.get(name, f"{name}_proj"), None)
        assert (mine is None) == (source is None)
        if mine is not None:
            mine.kernel.assign(numbers(source.weight).T)
            mine.bias.assign(numbers(source.bias))
    ours.output_dense.kernel.assign(np.eye(16))  # which is another module there
    mask = np.arange(40) < np.array([[40], [29]])
    expected, _ = theirs(
        torch.from_numpy(x),
        torch.from_numpy(mask[:, None, None] & mask[:, None, :, None]),
        rel_embeddings=torch.from_numpy(table),
    )
    outputs = to_numpy(ours(x, key_mask=mask, **relative(x)))
    difference = np.abs(outputs - numbers(expected))[mask].max()
    print(f"largest difference: {difference:.2e}")
    # Scores of up to 30 from sums of 8 products in another order, hence weights that differ by
    # 1e-5 of their size.
    assert difference <= 2e-5
