"""MaskedLM: logits by hand, tied weights, strings, files, training."""

import keras
import numpy as np
import pytest

from keras_addnorm.models import MaskedLM, MaskedLMPreprocessor, TransformerEncoder
from tests import reference
from tests.common import TINY_ENCODER, encoder_inputs, randomize, to_numpy, weights_of, word_piece

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]
FACTORIZED = {"embedding_options": {"token_embedding_dim": 4}, "share_layers": True}


def inputs(rng, **kwargs):
    positions = np.array([[0, 3], [2, 2], [1, 0]], "int32")
    return {**encoder_inputs(rng, **kwargs), "mask_positions": positions}


def built(rng, activation="gelu", **kwargs):
    return randomize(MaskedLM(TransformerEncoder(**{**TINY_ENCODER, **kwargs}), activation), rng)


def tables_of(model):
    """The matrices with a row or a column a token."""
    return [w.path for w in model.weights if len(w.shape) == 2 and 11 in w.shape]


@pytest.mark.parametrize("kwargs", [{}, FACTORIZED], ids=["plain", "factorized"])
def test_logits(rng, kwargs):
    task, x = built(rng, "relu", epsilon=1e-3, **kwargs), inputs(rng)
    tokens = {name: x[name] for name in ("token_ids", "padding_mask")}
    states = to_numpy(task.backbone(tokens)["sequence_output"]).astype("float64")
    weights = weights_of(task.head)
    at_masks = np.take_along_axis(states, x["mask_positions"][..., None], axis=1)
    hidden = reference.dense(reference.below(weights, "dense"), at_masks)
    hidden = np.maximum(hidden, 0.0)
    norm = reference.below(weights, "norm")
    hidden = reference.layer_norm(hidden, norm["gamma"], norm["beta"], 1e-3)
    table = to_numpy(task.backbone.token_embedding.embeddings).astype("float64")
    want = hidden @ table.T + to_numpy(task.logits.bias)
    # Two matrix products and a norm of size 1 to 4 in float32.
    np.testing.assert_allclose(to_numpy(task(x)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kwargs", [{}, FACTORIZED], ids=["plain", "factorized"])
def test_files_keep_the_table_tied(rng, kwargs, tmp_path):
    task, x = built(rng, **kwargs), inputs(rng)
    assert len(tables_of(task)) == 1  # the output projection has no kernel of its own
    task.save(tmp_path / "model.keras")
    task.save_to_preset(tmp_path / "preset")
    for loaded in (
        keras.saving.load_model(tmp_path / "model.keras"),
        MaskedLM.from_preset(str(tmp_path / "preset")),
    ):
        np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(task(x)))
        assert len(tables_of(loaded)) == 1


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantized_task_is_saved_bit_equal(rng, mode, tmp_path):
    task, x = built(rng), inputs(rng)
    task.quantize(mode)
    task.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(task(x)))


def test_learns_to_fill_in_words(rng):
    task, x = MaskedLM(TransformerEncoder(**TINY_ENCODER, dropout=0.0)), inputs(rng)
    labels = rng.integers(1, 11, size=(3, 2), dtype="int32")
    labels[1] = labels[1, 0]  # the same position twice
    task.compile(keras.optimizers.Adam(0.02), loss="auto")
    losses = task.fit(x, labels, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    np.testing.assert_array_equal(to_numpy(task(x)).argmax(-1), labels)


def test_strings(rng):
    preprocessor = MaskedLMPreprocessor(
        word_piece(WORDS), sequence_length=8, mask_selection_length=2
    )
    encoder = TransformerEncoder(**TINY_ENCODER)
    task = MaskedLM(encoder, preprocessor=preprocessor)
    before = to_numpy(encoder.token_embedding.embeddings)
    task.fit(["a cat sat", "the dogs sat"] * 4, batch_size=4, epochs=1, verbose=0)
    assert not np.array_equal(to_numpy(encoder.token_embedding.embeddings), before)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"backbone": None}, "MaskedLM: `backbone` must be a keras_addnorm TransformerEncoder"),
        ({"activation": "gleu"}, "`activation` must be one of"),
        ({"activaton": "gelu"}, "Did you mean `activation`?"),
    ],
)
def test_bad_argument_is_named_with_its_fix(kwargs, message):
    with pytest.raises(ValueError) as error:
        MaskedLM(**{"backbone": TransformerEncoder(**TINY_ENCODER), **kwargs})
    assert message in str(error.value)
