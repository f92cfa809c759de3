"""`quantize("int8")` and `quantize("int4")` of every layer that holds dense kernels or tables."""

import keras
import numpy as np
import pytest

from keras_addnorm.layers import (
    FeedForward,
    MultiHeadAttention,
    PatchEmbedding,
    Projection,
    TokenAndPositionEmbedding,
    TransformerEncoderLayer,
)
from tests.common import randomize, to_numpy

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")

ATTENTION = {
    "num_key_value_heads": 2,
    "key_dim": 4,
    "rotary": {},
    "qk_norm": "rms_norm",
    "use_gate": True,
    "use_bias": ["query"],
}
# A layer, the shape and dtype of its input, and how many of its sublayers get integer weights.
CASES = {
    "attention": (
        lambda **k: MultiHeadAttention(4, **ATTENTION, **k),
        (None, 8),
        "float32",
        5,
    ),
    "gated feed-forward": (
        lambda **k: FeedForward(15, "silu", gated=True, **k),
        (None, 8),
        "float32",
        3,
    ),
    "embeddings": (
        lambda **k: TokenAndPositionEmbedding(
            7, 9, 8, embedding_norm=True, token_embedding_dim=6, mask_zero=True, **k
        ),
        (None,),
        "int32",
        2,
    ),
    "trigrams": (
        lambda **k: TokenAndPositionEmbedding(
            7, 9, 8, token_embedding_dim=6, projection_window=3, **k
        ),
        (None,),
        "int32",
        2,
    ),
    "projection": (lambda **k: Projection(5, "affine", **k), (None, 8), "float32", 1),
    "patches": (lambda **k: PatchEmbedding(2, 8, **k), (4, 4, 3), "float32", 0),
    "block": (lambda **k: TransformerEncoderLayer(16, 2, **k), (None, 8), "float32", 6),
}


def data(rng, shape, dtype):
    shape = (2, *(size or 6 for size in shape))
    if dtype == "int32":
        return rng.integers(0, 7, size=shape, dtype="int32")
    return rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("mode", "dtype"), [("int8", "mixed_bfloat16"), ("int4", "float32")])
def test_saved_and_restored(rng, name, mode, dtype, tmp_path):
    make, shape, input_dtype, integers = CASES[name]
    inputs = keras.Input(shape, dtype=input_dtype)
    layer = make(dtype=dtype)
    model = keras.Model(inputs, layer(inputs))
    randomize(layer, rng)
    x = data(rng, shape, input_dtype)
    exact = to_numpy(model(x)).ravel()
    model.quantize(mode)
    assert sum(x.quantization_mode == mode for x in model._flatten_layers()) == integers
    want = to_numpy(model(x))
    # Kernels have 15 or 255 steps: an error of 1/15 or 1/255 of their largest value each, less in
    # a sum. Measured: above 0.99 with int4.
    assert np.corrcoef(want.ravel(), exact)[0, 1] > (0.999 if mode == "int8" else 0.98)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [(w.path, w.dtype) for w in loaded.weights] == [(w.path, w.dtype) for w in model.weights]
    got = loaded(x)
    np.testing.assert_array_equal(to_numpy(got), want)
    assert keras.backend.standardize_dtype(got.dtype) == loaded.output.dtype == layer.compute_dtype


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_tied_table_gives_the_same_logits(rng, mode, tmp_path):
    token_ids = keras.Input((None,), dtype="int32")
    layer = TokenAndPositionEmbedding(7, 9, 8, name="embeddings")
    model = keras.Model(token_ids, layer(token_ids))
    randomize(layer, rng)
    x = data(rng, (None, 8), "float32")
    exact = to_numpy(layer.token_embedding(x, reverse=True))
    model.quantize(mode)
    want = to_numpy(layer.token_embedding(x, reverse=True))
    # The input of the logits is rounded as well. Measured: 0.9999 with int8, 0.99 with int4.
    assert np.corrcoef(want.ravel(), exact.ravel())[0, 1] > (0.999 if mode == "int8" else 0.97)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("embeddings")
    np.testing.assert_array_equal(to_numpy(loaded.token_embedding(x, reverse=True)), want)


def test_part_of_a_model(rng, tmp_path):
    """The sublayers that a filter leaves out stay as they are, and are saved so."""
    inputs = keras.Input((None, 8))
    layer = TransformerEncoderLayer(16, 2, name="block")
    model = keras.Model(inputs, layer(inputs))
    randomize(layer, rng)
    model.quantize("int4", filters="intermediate|value")
    integers = {w.path for w in model.weights if "int" in w.dtype and w.path.endswith("kernel")}
    assert integers == {"block/feed_forward/intermediate/kernel", "block/attention/value/kernel"}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [(w.path, w.dtype) for w in loaded.weights] == [(w.path, w.dtype) for w in model.weights]
    x = data(rng, (None, 8), "float32")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))


def test_lora_of_attention_alone(rng):
    """As with any Keras layer: each dense sublayer takes `enable_lora`, also when quantized."""
    x = data(rng, (None, 8), "float32")
    for quantized in (False, True):
        layer = MultiHeadAttention(2)
        layer(x)
        if quantized:
            layer.query_dense.quantize("int8")
        before = to_numpy(layer(x))
        layer.query_dense.enable_lora(2)
        np.testing.assert_array_equal(to_numpy(layer(x)), before)  # one factor starts at 0
        layer.query_dense.lora_kernel_b.assign(rng.normal(size=(2, 8)))
        assert not np.allclose(to_numpy(layer(x)), before)
