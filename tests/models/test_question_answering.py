"""QuestionAnswering: logits by hand, spans by brute force, training."""

import itertools

import keras
import numpy as np
import pytest

from keras_addnorm.models import (
    QuestionAnswering,
    QuestionAnsweringPreprocessor,
    TransformerEncoder,
    decode_spans,
)
from tests import reference
from tests.common import TINY_ENCODER, encoder_inputs, to_numpy, weights_of, word_piece
from tests.models import tasks


def test_values(rng):
    task, inputs = tasks.make("answer", rng)
    states = to_numpy(task.backbone(inputs)["sequence_output"]).astype("float64")
    want = reference.head(weights_of(task.head), states, "gelu", "layer_norm_no_bias")
    got = task(inputs)
    assert set(got) == {"start_logits", "end_logits"}
    for i, name in enumerate(("start_logits", "end_logits")):
        # Two matrix products of 8 terms and a norm, in float32.
        np.testing.assert_allclose(to_numpy(got[name]), want[..., i], rtol=1e-5, atol=1e-5)


def test_learns_where_the_answers_are(rng):
    task = QuestionAnswering(TransformerEncoder(**tasks.ENCODER, dropout=0.0))
    inputs = encoder_inputs(rng)
    first, last = np.array([1, 0, 0]), np.array([4, 2, 1])
    task.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
    labels = {"start_logits": first, "end_logits": last}
    losses = task.fit(inputs, labels, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    spans = decode_spans(**task.predict(inputs, verbose=0), mask=inputs["padding_mask"])
    assert [span[0][:2] for span in spans] == list(zip(first, last, strict=True))


def test_default_loss_is_the_mean_of_both(rng):
    task, inputs = tasks.make("answer", rng)
    task.compile(run_eagerly=True)
    labels = tasks.targets("answer", rng)
    got = task.evaluate(inputs, labels, verbose=0, return_dict=True)
    entropies = []
    for name, logits in task(inputs).items():
        logits = to_numpy(logits).astype("float64")
        right = np.take_along_axis(logits, labels[name][:, None], -1)[:, 0]
        entropies.append((np.log(np.exp(logits).sum(-1)) - right).mean())
    assert got["loss"] == pytest.approx(np.mean(entropies), rel=1e-5)


def brute_force(start, end, mask, max_span_length):
    """All spans with their probabilities, the most probable first."""
    kept = [i for i, keep in enumerate(mask) if keep]
    sums = [sum(np.exp(x[i]) for i in kept) for x in (start, end)]
    spans = [
        (i, j, np.exp(start[i]) / sums[0] * np.exp(end[j]) / sums[1])
        for i, j in itertools.product(kept, kept)
        if i <= j < i + max_span_length and all(mask[i : j + 1])
    ]
    return sorted(spans, key=lambda span: -span[2])


@pytest.mark.parametrize("max_span_length", [1, 3, 30])
@pytest.mark.parametrize("top_k", [1, 4, 1000])
def test_decode_spans(rng, max_span_length, top_k):
    start, end = 2 * rng.normal(size=(2, 6, 9))
    mask = rng.integers(0, 4, size=(6, 9)) > 0
    mask[0], mask[1] = True, [1, 0, 0, 0, 1, 1, 1, 1, 0]
    got = decode_spans(start, end, mask, max_span_length, top_k)
    for row in range(6):
        want = brute_force(start[row], end[row], mask[row], max_span_length)[:top_k]
        assert [span[:2] for span in got[row]] == [span[:2] for span in want]
        np.testing.assert_allclose([s[2] for s in got[row]], [s[2] for s in want], rtol=1e-12)


def test_padding_never_wins_and_no_answer_is_the_first_token():
    start, end = np.array([[9.0, 1.0, 2.0, 1e4]]), np.array([[9.0, 1.0, 3.0, 1e4]])
    [[(first, last, probability)]] = decode_spans(start, end, [[0, 1, 1, 0]])
    assert (first, last) == (2, 2) and 0 < probability < 1
    assert decode_spans(start, end, [[1, 0, 1, 0]])[0][0][:2] == (0, 0)
    assert decode_spans(start, end, [[0, 0, 0, 0]]) == [[]]


# [CLS] the cat ? [SEP] A dog sat . [SEP]: the rest of the context is cut off.
QUESTION, CONTEXT = "The cat?", "A dog sat. The cat sat."
CHARACTERS = {5: (0, 1), 6: (2, 5), 7: (6, 9), 8: (9, 10)}


def answering(rng):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "dog", "the"]
    task, _ = tasks.make("answer", rng)
    task.preprocessor = QuestionAnsweringPreprocessor(word_piece(words), sequence_length=10)
    task.compile(run_eagerly=True)
    return task


@pytest.mark.parametrize(
    ("first", "last", "no_answer", "want"),
    [
        (6, 7, False, "dog sat"),
        (1, 2, False, None),  # words of the question
        (8, 9, False, None),  # a special token
        (0, 0, False, None),
        (0, 0, True, ""),
    ],
)
def test_answer(rng, monkeypatch, first, last, no_answer, want):
    outputs = {name: np.full((2, 10), -9.0) for name in ("start_logits", "end_logits")}
    outputs["start_logits"][:, first] = outputs["end_logits"][:, last] = 9.0
    monkeypatch.setattr(keras.Model, "predict", lambda self, x, **kwargs: outputs)
    got = answering(rng).answer(([QUESTION] * 2, [CONTEXT] * 2), no_answer=no_answer)
    assert len(got) == 2 and got[0] == got[1]
    answer, probability = got[0]
    if want is None:
        assert answer and answer in CONTEXT and probability < 0.5
    else:
        assert answer == want and probability > 0.99


def test_answer_is_that_of_predict_and_decode_spans(rng):
    task = answering(rng)
    inputs = task.preprocess_samples(([QUESTION], [CONTEXT]))
    mask = np.isin(np.arange(10), [*CHARACTERS])[None]
    [[(first, last, probability)]] = decode_spans(**task(inputs), mask=mask)
    want = CONTEXT[CHARACTERS[first][0] : CHARACTERS[last][1]]
    assert task.answer((QUESTION, CONTEXT)) == [(want, pytest.approx(probability, rel=1e-5))]


def test_answer_without_a_preprocessor(rng):
    with pytest.raises(ValueError, match="Pass a QuestionAnsweringPreprocessor"):
        tasks.make("answer", rng)[0].answer((QUESTION, CONTEXT))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mask": [[1, 1]]}, "must have one shape, (batch, length)"),
        ({"mask": [1], "start_logits": [1.0], "end_logits": [1.0]}, "Add a first axis"),
        ({"max_span_length": 0}, "`max_span_length` must be a whole number from 1"),
        ({"top_k": 0}, "`top_k` must be a whole number from 1"),
    ],
)
def test_bad_arguments_of_decode_spans(kwargs, message):
    arguments = {"start_logits": [[1.0]], "end_logits": [[1.0]], "mask": [[1]], **kwargs}
    with pytest.raises(ValueError) as error:
        decode_spans(**arguments)
    assert message in str(error.value)


def test_dropout_is_checked():
    with pytest.raises(ValueError, match="`dropout` is the share"):
        QuestionAnswering(TransformerEncoder(**TINY_ENCODER), dropout=2.0)
