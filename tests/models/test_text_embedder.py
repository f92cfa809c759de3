"""TextEmbedder: strings to embeddings, pooling by hand, saving, presets, training, errors."""

import warnings

import keras
import keras_hub
import numpy as np
import pytest

from keras_addnorm.models import TextEmbedder, TextEmbedderPreprocessor, TransformerEncoder
from tests import reference
from tests.common import TINY_ENCODER, encoder_inputs, randomize, to_numpy, word_piece

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]
TEXTS = ["A cat sat", "the dogs", "The DOG sat the cats sat a dog"]

# Embeddings of length 1 in float32: a few units of 6e-8 for a sum of 8 squares and a root.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def preprocessor():
    return TextEmbedderPreprocessor(word_piece(WORDS), sequence_length=8)


def backbone(rng, **kwargs):
    return randomize(TransformerEncoder(**{**TINY_ENCODER, "num_segments": 2, **kwargs}), rng)


@pytest.fixture
def embedder(rng):
    return TextEmbedder(backbone(rng), preprocessor=preprocessor())


def test_strings_become_word_pieces():
    got = {name: np.asarray(x) for name, x in preprocessor()(TEXTS[:2]).items()}
    np.testing.assert_array_equal(
        got["token_ids"], [[2, 5, 6, 7, 3, 0, 0, 0], [2, 10, 9, 8, 3, 0, 0, 0]]
    )
    np.testing.assert_array_equal(got["padding_mask"], got["token_ids"] != 0)
    np.testing.assert_array_equal(got["segment_ids"], np.zeros((2, 8)))


def test_encode_text_gives_unit_vectors(embedder):
    got = embedder.encode_text(TEXTS)
    assert got.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1.0, **TOLERANCE)
    np.testing.assert_allclose(embedder.encode_text(TEXTS[1]), got[1:2], **TOLERANCE)


@pytest.mark.parametrize("kind", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_pooling_by_hand(rng, kind, normalize):
    encoder = backbone(rng)
    embedder = TextEmbedder(encoder, kind, normalize, preprocessor=preprocessor())
    inputs = embedder.preprocessor(TEXTS)
    states = to_numpy(encoder(inputs)["sequence_output"]).astype("float64")
    want = reference.pooling(states, np.asarray(inputs["padding_mask"]), kind, normalize)
    np.testing.assert_allclose(embedder.encode_text(TEXTS), want, **TOLERANCE)
    np.testing.assert_allclose(to_numpy(embedder(inputs)), want, **TOLERANCE)


def test_model_of_token_ids_without_a_preprocessor(rng):
    encoder = backbone(rng, num_segments=0)
    inputs = encoder_inputs(rng)
    states = to_numpy(encoder(inputs)["sequence_output"]).astype("float64")
    want = reference.pooling(states, inputs["padding_mask"], "mean", True)
    got = TextEmbedder(encoder).predict(inputs, verbose=0)
    np.testing.assert_allclose(got, want, **TOLERANCE)


def test_padding_does_not_change_an_embedding(embedder):
    want = embedder.encode_text(TEXTS[:2])
    embedder.preprocessor.sequence_length = 10
    np.testing.assert_allclose(embedder.encode_text(TEXTS[:2]), want, **TOLERANCE)


def test_strings_without_a_segment_input(rng):
    embedder = TextEmbedder(backbone(rng, num_segments=0), preprocessor=preprocessor())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = embedder.encode_text(TEXTS)
    assert not [str(w.message) for w in caught if "structure of `inputs`" in str(w.message)]
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1.0, **TOLERANCE)


@pytest.mark.parametrize("kwargs", [{}, {"pooling": "max", "normalize": False}])
def test_preset_round_trip_from_strings(rng, kwargs, tmp_path):
    embedder = TextEmbedder(backbone(rng), preprocessor=preprocessor(), **kwargs)
    embedder.save_to_preset(tmp_path / "preset")
    loaded = keras_hub.models.TextEmbedder.from_preset(str(tmp_path / "preset"))
    assert type(loaded) is TextEmbedder
    assert type(loaded.preprocessor) is TextEmbedderPreprocessor
    alone = keras_hub.models.TextEmbedderPreprocessor.from_preset(str(tmp_path / "preset"))
    assert type(alone) is TextEmbedderPreprocessor and alone.sequence_length == 8
    assert loaded.get_config()["pooling"] == embedder.pooling
    assert loaded.get_config()["normalize"] == embedder.normalize
    np.testing.assert_array_equal(loaded.encode_text(TEXTS), embedder.encode_text(TEXTS))


def keras_round_trip(embedder, path):
    """Saves and loads; returns the model and the warnings about compiling and optimizers."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embedder.save(path)
        loaded = keras.saving.load_model(path)
    messages = [str(w.message) for w in caught]
    return loaded, [m for m in messages if "compil" in m.lower() or "optimizer" in m.lower()]


@pytest.mark.parametrize("with_preprocessor", [True, False])
def test_keras_file_round_trip(rng, with_preprocessor, tmp_path):
    embedder = TextEmbedder(
        backbone(rng), "cls", False, preprocessor=preprocessor() if with_preprocessor else None
    )
    loaded, complaints = keras_round_trip(embedder, tmp_path / "model.keras")
    assert type(loaded) is TextEmbedder
    assert (loaded.pooling, loaded.normalize) == ("cls", False)
    inputs = encoder_inputs(rng, segments=True)
    np.testing.assert_array_equal(to_numpy(loaded(inputs)), to_numpy(embedder(inputs)))
    if with_preprocessor:
        np.testing.assert_array_equal(loaded.encode_text(TEXTS), embedder.encode_text(TEXTS))
    assert complaints == []


def test_keras_file_of_a_trained_model_keeps_the_optimizer(rng, tmp_path):
    embedder = TextEmbedder(backbone(rng))
    inputs = encoder_inputs(rng, segments=True)
    embedder.compile(keras.optimizers.Adam(0.01), loss="mse", run_eagerly=True)
    embedder.fit(inputs, rng.normal(size=(3, 8)), epochs=2, verbose=0)
    loaded, complaints = keras_round_trip(embedder, tmp_path / "model.keras")
    assert complaints == []
    assert (loaded.loss, int(loaded.optimizer.iterations)) == ("mse", 2)
    states = [[to_numpy(v.value) for v in m.optimizer.variables] for m in (loaded, embedder)]
    assert len(states[0]) == 2 + 2 * len(embedder.trainable_weights)
    for got, want in zip(*states, strict=True):
        np.testing.assert_array_equal(got, want)


def test_fit_on_dict_inputs_changes_weights(rng):
    embedder = TextEmbedder(backbone(rng))
    before = [to_numpy(w.value) for w in embedder.trainable_weights]
    embedder.compile("sgd", loss="mse", run_eagerly=True)
    inputs = encoder_inputs(rng, segments=True)
    embedder.fit(inputs, rng.normal(size=(3, 8)), batch_size=3, epochs=1, verbose=0)
    for weight, old in zip(embedder.trainable_weights, before, strict=True):
        # A key bias has no effect on the scores, so its gradient is 0 but for rounding.
        if not weight.path.endswith("key/bias"):
            assert not np.array_equal(to_numpy(weight.value), old), weight.path


def test_fit_on_strings_changes_embeddings(embedder, rng):
    before = embedder.encode_text(TEXTS)
    embedder.compile(keras.optimizers.SGD(0.1), loss="mse")
    embedder.fit(TEXTS, rng.normal(size=(3, 8)), batch_size=3, epochs=1, verbose=0)
    assert not np.allclose(embedder.encode_text(TEXTS), before, atol=1e-4)


def test_compile_name_and_trainable_are_arguments(rng):
    embedder = TextEmbedder(backbone(rng), name="mine", trainable=False, compile=False)
    assert (embedder.name, embedder.trainable, embedder.compiled) == ("mine", False, False)
    assert TextEmbedder(backbone(rng)).compiled


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(rng, dtype):
    encoder = TransformerEncoder(**TINY_ENCODER, dtype=dtype)
    inputs = encoder_inputs(rng)
    inputs["padding_mask"][2] = 0
    output = TextEmbedder(encoder)(inputs)
    assert keras.backend.standardize_dtype(output.dtype) == encoder.compute_dtype
    output = to_numpy(output)
    # The output of 8 values is rounded by 2^-9 (bfloat16) or 2^-12 (float16).
    atol = 4e-3 if "bfloat16" in dtype else 5e-4
    np.testing.assert_allclose(np.linalg.norm(output[:2], axis=-1), 1.0, rtol=0, atol=atol)
    np.testing.assert_array_equal(output[2], 0.0)


@pytest.mark.parametrize(
    ("kwargs", "name", "fix"),
    [
        ({"backbone": None}, "backbone", "must be a keras_addnorm TransformerEncoder"),
        ({"backbone": keras.Sequential()}, "backbone", "of type Sequential"),
        ({"pooling": "sum"}, "pooling", "'mean', 'cls', 'max'"),
        ({"poolin": "max"}, "poolin", "Did you mean `pooling`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(rng, kwargs, name, fix):
    with pytest.raises(ValueError) as error:
        TextEmbedder(**{"backbone": backbone(rng), **kwargs})
    assert f"`{name}`" in str(error.value)
    assert fix in str(error.value)
