"""TransformerEncoder: files, presets, LoRA, int8 weights."""

import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest

from keras_addnorm.models import TransformerEncoder
from tests.common import TINY_ENCODER, encoder_inputs, flat_outputs, randomize, to_numpy

FULL = {
    **TINY_ENCODER,
    "residual": "pre_norm",
    "activation": "gelu_tanh",
    "position": "learned",
    "num_segments": 2,
    "embedding_norm": True,
    "pooler": "tanh",
}

SHARED = {  # ALBERT's parts, and attention's own positions
    **TINY_ENCODER,
    "residual": "sandwich_norm",
    "position": "relative",
    "position_options": {"num_buckets": 8, "max_distance": 16},
    "share_layers": True,
    "embedding_options": {"token_embedding_dim": 4},
}
MODERN = {
    **TINY_ENCODER,
    "residual": "layer_scale",
    "position": "rotary",
    "drop_path": 0.1,
    "attention_options": [{}, {"sliding_window": 2, "num_key_value_heads": 1}],
    "feed_forward_options": {"gated": True},
}
DISENTANGLED = {
    **TINY_ENCODER,
    "position": "disentangled",
    "position_options": {"bucket_size": 4, "max_distance": 8},
    "attention_options": {"disentangled": {"terms": ["p2c"]}},
}

FRESH_PROCESS = """
import sys

import keras_addnorm

import keras
import numpy as np

model = keras.saving.load_model(sys.argv[1])
inputs = dict(np.load(sys.argv[2]))
outputs = {name: np.asarray(x) for name, x in model(inputs).items()}
np.savez(sys.argv[3], kind=type(model).__name__, **outputs)
"""


@pytest.fixture(
    params=[TINY_ENCODER, FULL, SHARED, MODERN, DISENTANGLED],
    ids=["small", "full", "shared", "modern", "disentangled"],
)
def encoder(request, rng):
    return randomize(TransformerEncoder(**request.param), rng)


@pytest.fixture
def inputs(encoder, rng):
    return encoder_inputs(rng, segments=encoder.num_segments > 0)


def assert_equal_outputs(encoder, other, inputs):
    for got, want in zip(flat_outputs(other(inputs)), flat_outputs(encoder(inputs)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_keras_file_in_a_fresh_process(rng, tmp_path):
    encoder = randomize(TransformerEncoder(**FULL), rng)
    inputs = encoder_inputs(rng, segments=True)
    files = [str(tmp_path / name) for name in ("model.keras", "inputs.npz", "outputs.npz")]
    encoder.save(files[0])
    np.savez(files[1], **inputs)
    subprocess.run([sys.executable, "-c", FRESH_PROCESS, *files], check=True, timeout=120)
    got, want = np.load(files[2]), encoder(inputs)
    assert str(got["kind"]) == "TransformerEncoder"
    assert set(got) == {"kind", *want}
    for name, output in want.items():
        np.testing.assert_array_equal(got[name], to_numpy(output))


def test_keras_file(encoder, inputs, tmp_path):
    encoder.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is TransformerEncoder
    assert loaded.get_config() == encoder.get_config()
    assert_equal_outputs(encoder, loaded, inputs)


def test_weights_file(encoder, inputs, tmp_path):
    encoder.save_weights(tmp_path / "model.weights.h5")
    other = TransformerEncoder.from_config(encoder.get_config())
    assert not np.array_equal(flat_outputs(other(inputs))[0], flat_outputs(encoder(inputs))[0])
    other.load_weights(tmp_path / "model.weights.h5")
    assert_equal_outputs(encoder, other, inputs)


def test_preset(encoder, inputs, tmp_path):
    encoder.save_to_preset(tmp_path / "preset")
    loaded = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert type(loaded) is TransformerEncoder
    assert_equal_outputs(encoder, loaded, inputs)
    half = TransformerEncoder.from_preset(str(tmp_path / "preset"), dtype="bfloat16")
    assert {w.dtype for w in half.weights} == {"bfloat16"}


def test_lora(encoder, inputs, rng, tmp_path):
    before = flat_outputs(encoder(inputs))
    copy = TransformerEncoder.from_config(encoder.get_config())
    copy.set_weights(encoder.get_weights())
    encoder.enable_lora(rank=3)
    for got, want in zip(flat_outputs(encoder(inputs)), before, strict=True):
        np.testing.assert_array_equal(got, want)  # the second factor starts at 0
    trainable = [w.path for w in encoder.trainable_weights if "lora" in w.path]
    blocks = 1 if encoder.share_layers else encoder.num_layers
    assert len(trainable) == 2 * 2 * blocks  # two factors, query and value
    frozen = [w.path for w in encoder.non_trainable_weights if w.path.endswith("kernel")]
    assert {path for path in frozen if "attention" in path} == {
        f"layer_{i}_attention/{name}/kernel"
        for i in range(blocks)
        for name in ("query", "key", "value", "output")
    }

    for weight in encoder.trainable_weights:
        if "lora" in weight.path:
            weight.assign(0.1 * rng.normal(size=weight.shape))
    assert not np.allclose(flat_outputs(encoder(inputs))[0], before[0])
    encoder.save_lora_weights(str(tmp_path / "model.lora.h5"))
    copy.load_lora_weights(str(tmp_path / "model.lora.h5"))
    assert_equal_outputs(encoder, copy, inputs)


def test_lora_training_changes_only_the_factors(encoder, inputs, rng):
    encoder.enable_lora(rank=3)
    before = {w.path: to_numpy(w.value) for w in encoder.weights}
    encoder.compile(keras.optimizers.SGD(1.0), loss="mse", run_eagerly=True)
    outputs = encoder(inputs)
    targets = {name: rng.normal(size=x.shape) for name, x in outputs.items()}
    encoder.fit(inputs, targets, epochs=1, verbose=0)
    trained = {w.path for w in encoder.trainable_weights}
    changed = {
        w.path for w in encoder.weights if not np.array_equal(to_numpy(w.value), before[w.path])
    }
    assert changed <= trained
    assert any("lora" in path for path in changed)


def test_int8(encoder, inputs, tmp_path):
    exact = flat_outputs(encoder(inputs))
    encoder.quantize("int8")
    kernels = [w for w in encoder.weights if w.path.endswith("kernel")]
    blocks = 1 if encoder.share_layers else encoder.num_layers
    dense = 6 + encoder.feed_forward_options.get("gated", False)
    others = (encoder.pooler is not None) + bool(encoder.embedding_options)
    assert len(kernels) == dense * blocks + others
    assert {w.dtype for w in kernels} == {"int8"}
    for got, want in zip(flat_outputs(encoder(inputs)), exact, strict=True):
        # Weights and activations have 8 bits, a step of 1/127 of their largest value; two blocks
        # of normalized values of size 1 add some ten such errors. Unrelated values correlate
        # by 0 with a deviation of 1 / sqrt(24) = 0.2.
        assert np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.98
    encoder.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.dtype for w in loaded.weights] == [w.dtype for w in encoder.weights]
    assert_equal_outputs(encoder, loaded, inputs)
