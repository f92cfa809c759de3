"""TransformerEncoder: dtype policies by path, integer weights and LoRA, saved and restored."""

import keras
import numpy as np
import pytest

from keras_addnorm.models import TextEmbedder, TransformerEncoder
from tests.common import TINY_ENCODER, encoder_inputs, flat_outputs, randomize

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")

SCHEMES = {
    "post_norm": {"residual": "post_norm", "embedding_norm": True, "pooler": "tanh"},
    "pre_norm": {"residual": "pre_norm", "position": "learned", "norm": "rms_norm"},
}
SMALL = {**TINY_ENCODER, "num_layers": 1}
DTYPES = ["float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]


def precisions(model):
    layers = [
        (x.path, x.compute_dtype, x.variable_dtype, x.quantization_mode)
        for x in model._flatten_layers(include_self=False)
    ]
    return layers, [(w.path, w.dtype) for w in model.weights]


def assert_saved_as_it_is(model, inputs, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert precisions(loaded) == precisions(model)
    for got, want in zip(flat_outputs(loaded(inputs)), flat_outputs(model(inputs)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("dtype", "scheme"), list(zip(DTYPES[1:], [*SCHEMES] * 2, strict=True)))
def test_every_policy(rng, scheme, dtype, tmp_path):
    encoder = randomize(TransformerEncoder(**SMALL, **SCHEMES[scheme], dtype=dtype), rng)
    assert_saved_as_it_is(encoder, encoder_inputs(rng), tmp_path)


@pytest.mark.parametrize(
    ("dtype", "mode", "scheme"),
    [
        ("float32", "int4", "pre_norm"),
        ("mixed_float16", "int4", "post_norm"),  # Keras refuses int8 in float16.
        ("mixed_bfloat16", "int8", "pre_norm"),
        ("float16", "int4", "pre_norm"),
        ("bfloat16", "int8", "post_norm"),
    ],
)
def test_integer_weights_in_every_policy(rng, scheme, dtype, mode, tmp_path):
    encoder = randomize(TransformerEncoder(**SMALL, **SCHEMES[scheme], dtype=dtype), rng)
    inputs = encoder_inputs(rng)
    exact = flat_outputs(encoder(inputs))[-1]
    encoder.quantize(mode)
    quantized = [x for x in encoder._flatten_layers() if x.quantization_mode == mode]
    assert len(quantized) == 1 + 6 * encoder.num_layers + (encoder.pooler is not None)
    # Two blocks of normalized values with the errors of 255 or 15 steps of a kernel.
    got = flat_outputs(encoder(inputs))[-1]
    limit = 0.99 if mode == "int8" else 0.95
    assert np.corrcoef(got.ravel(), exact.ravel())[0, 1] > limit
    assert_saved_as_it_is(encoder, inputs, tmp_path)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_policy_map(rng, scheme, tmp_path):
    bfloat16 = keras.DTypePolicy("bfloat16")
    paths = {"layer_._feed_forward(/.*)?": bfloat16, "layer_1_attention/value": bfloat16}
    dtype = keras.dtype_policies.DTypePolicyMap(keras.DTypePolicy("float32"), paths)
    encoder = randomize(TransformerEncoder(**TINY_ENCODER, **SCHEMES[scheme], dtype=dtype), rng)
    halves = {x.path for x in encoder._flatten_layers() if x.compute_dtype == "bfloat16"}
    dense = {
        f"layer_{i}_feed_forward{part}" for i in (0, 1) for part in ("", "/intermediate", "/output")
    }
    assert dense | {"layer_1_attention/value"} <= halves
    assert {path.split("/")[0] for path in halves if path} == {
        "layer_0_feed_forward",
        "layer_1_feed_forward",
        "layer_1_attention",
    }
    inputs = encoder_inputs(rng)
    for output, spec in zip(
        keras.tree.flatten(encoder(inputs)), keras.tree.flatten(encoder.output), strict=True
    ):
        assert keras.backend.standardize_dtype(output.dtype) == spec.dtype == "float32"
    assert_saved_as_it_is(encoder, inputs, tmp_path)


def test_a_task_of_an_encoder_with_integer_weights(rng, tmp_path):
    encoder = randomize(TransformerEncoder(**SMALL, dtype="mixed_bfloat16"), rng)
    embedder = TextEmbedder(encoder)
    embedder.quantize("int8")
    for _ in range(2):  # a second file is as good as the first
        assert_saved_as_it_is(embedder, encoder_inputs(rng), tmp_path)


@pytest.mark.parametrize(("scheme", "quantized"), [("post_norm", False), ("pre_norm", True)])
def test_trained_lora_weights_go_from_one_encoder_to_another(rng, scheme, quantized, tmp_path):
    encoder, other = (TransformerEncoder(**SMALL, **SCHEMES[scheme]) for _ in range(2))
    randomize(encoder, rng)
    other.set_weights(encoder.get_weights())
    if quantized:
        encoder.quantize("int8")
        other.quantize("int8")
    inputs = encoder_inputs(rng)
    before = flat_outputs(encoder(inputs))
    encoder.enable_lora(rank=2)
    lora = [x.path for x in encoder._flatten_layers() if getattr(x, "lora_enabled", False)]
    assert sorted(lora) == ["layer_0_attention/query", "layer_0_attention/value"]
    encoder.compile(keras.optimizers.SGD(1.0), loss="mse", run_eagerly=True)
    targets = {name: rng.normal(size=x.shape) for name, x in encoder(inputs).items()}
    encoder.fit(inputs, targets, epochs=2, verbose=0)
    wants = flat_outputs(encoder(inputs))
    assert not any(np.allclose(a, b) for a, b in zip(before, wants, strict=True))
    assert all("lora_kernel" in weight.path for weight in encoder.trainable_weights)
    encoder.save_lora_weights(str(tmp_path / "model.lora.h5"))
    other.load_lora_weights(str(tmp_path / "model.lora.h5"))
    for got, want in zip(flat_outputs(other(inputs)), wants, strict=True):
        np.testing.assert_array_equal(got, want)


def test_lora_of_chosen_layers(rng):
    encoder = TransformerEncoder(**TINY_ENCODER)
    encoder.enable_lora(2, target_layer_names=["output", "intermediate"])
    lora = {x.path for x in encoder._flatten_layers() if getattr(x, "lora_enabled", False)}
    assert lora == {
        f"layer_{i}_{path}"
        for i in range(2)
        for path in ("attention/output", "feed_forward/output", "feed_forward/intermediate")
    }


def save_again(model, folder):
    model.quantize("int8")
    model.save(folder / "model.keras")
    keras.saving.load_model(folder / "model.keras").save(folder / "again.keras")


def save_preset(model, folder):
    model.quantize("int8")
    model.save_to_preset(folder / "preset")
    TransformerEncoder.from_preset(str(folder / "preset"))


def quantize_a_policy_map(model, folder):
    policies = keras.dtype_policies.DTypePolicyMap("float32")
    TransformerEncoder(**SMALL, dtype=policies).quantize("int8")


@pytest.mark.parametrize("do", [save_again, save_preset, quantize_a_policy_map])
def test_known_limits_of_keras_and_keras_hub(rng, do, tmp_path):
    """The README names these; a newer Keras that can do them makes this test fail."""
    with pytest.raises(ValueError):
        do(TransformerEncoder(**SMALL), tmp_path)
