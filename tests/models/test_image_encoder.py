"""ImageEncoder: values against numpy, config, files, errors."""

import json

import keras
import numpy as np
import pytest

from keras_addnorm.models import ImageEncoder
from tests import reference
from tests.common import TINY_IMAGE_ENCODER, flat_outputs, randomize, to_numpy, weights_of

VARIANTS = [
    {"pooler": "tanh"},
    {"residual": "layer_scale", "embedding_options": {"num_register_tokens": 2}},
    {"patch_size": [8, 2], "embedding_options": {"num_class_tokens": 2}, "share_layers": True},
    {"feed_forward_options": {"gated": True, "fused": True}, "activation": "silu"},
    {"position": "none", "norm": "rms_norm", "attention_options": [{}, {"sliding_window": 2}]},
]
each_variant = pytest.mark.parametrize("kwargs", VARIANTS, ids=lambda kwargs: next(iter(kwargs)))


def images(rng, batch=2):
    return {"images": rng.normal(size=(batch, 8, 12, 3)).astype("float32")}


@each_variant
def test_values(rng, kwargs):
    encoder = randomize(ImageEncoder(**{**TINY_IMAGE_ENCODER, **kwargs}), rng)
    config, weights, inputs = encoder.get_config(), weights_of(encoder), images(rng)
    size = config["patch_size"]
    x = reference.patch_embedding(
        reference.below(weights, "embeddings"),
        inputs["images"].astype("float64"),
        (size, size) if isinstance(size, int) else size,
    )
    want, want_pooled = reference.blocks(weights, x, config={**config, "position_options": {}})
    outputs = encoder(inputs)
    # Two blocks of float32 operations of size 1 to 10, each normalized back to size 1.
    np.testing.assert_allclose(to_numpy(outputs["sequence_output"]), want, rtol=1e-5, atol=1e-5)
    assert ("pooled_output" in outputs) == (want_pooled is not None)
    if want_pooled is not None:
        pooled = to_numpy(outputs["pooled_output"])
        np.testing.assert_allclose(pooled, want_pooled, rtol=1e-5, atol=1e-5)


@each_variant
def test_files_and_config(rng, kwargs, tmp_path):
    encoder = randomize(
        ImageEncoder(**{**TINY_IMAGE_ENCODER, **kwargs}, drop_path=0.0, dropout=0.1), rng
    )
    config = encoder.get_config()
    revived = ImageEncoder.from_config(json.loads(json.dumps(config)))
    assert revived.get_config() == config
    encoder.save(tmp_path / "model.keras")
    encoder.save_to_preset(tmp_path / "preset")
    inputs = images(rng)
    for loaded in (
        keras.saving.load_model(tmp_path / "model.keras"),
        ImageEncoder.from_preset(str(tmp_path / "preset")),
    ):
        assert type(loaded) is ImageEncoder
        for got, want in zip(
            flat_outputs(loaded(inputs)), flat_outputs(encoder(inputs)), strict=True
        ):
            np.testing.assert_array_equal(got, want)


def test_trains(rng):
    encoder = randomize(ImageEncoder(**TINY_IMAGE_ENCODER, drop_path=0.2, dropout=0.1), rng)
    logits = keras.layers.Dense(1)(encoder.output["sequence_output"][:, 0])
    model = keras.Model(encoder.input, logits)
    model.compile("adam", "mse")
    x, y = images(rng, 8), rng.normal(size=(8, 1))
    losses = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"image_shape": (8, 12)}, "image_shape", "Pass for instance (224, 224, 3)"),
        ({"image_shape": (8, 0, 3)}, "image_shape", "Pass a positive int"),
        ({"image_shape": (8, 12, None)}, "image_shape", "Pass a positive int"),
        ({"image_shape": (9, 12, 3)}, "images", "Resize or crop them"),
        ({"patch_size": 0}, "patch_size", "Pass a positive int"),
        ({"position": "rotary"}, "position", "'learned', 'none'"),
        ({"num_heads": 3}, "num_heads", "Pass a num_heads that divides 8"),
        ({"embedding_options": {"dropout": 0.1}}, "embedding_options", "num_class_tokens"),
        ({"patches": 4}, "patches", "Its arguments are: image_shape"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, name, fix):
    with pytest.raises(ValueError) as error:
        ImageEncoder(**{**TINY_IMAGE_ENCODER, **kwargs})
    assert name in str(error.value)
    assert fix in str(error.value)
