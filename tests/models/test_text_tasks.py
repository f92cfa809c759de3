"""Text tasks with their preprocessors: strings in `fit` and `predict`, files, presets."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm.models import QuestionAnswering, TransformerEncoder
from tests.common import TINY_ENCODER, word_piece
from tests.models import tasks

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]
TEXTS = ["A cat sat", "the dogs", "a cat sat the dogs", "cats sat"]
QUESTIONS = ["cat", "the dog", "sat", "a"]
# What `fit` takes: texts and labels.
DATA = {
    "embedder": (TEXTS, np.zeros((4, 3))),
    "text": ((TEXTS, QUESTIONS), np.array([0, 1, 2, 0])),
    "token": (
        tf.ragged.constant([["a", "cat"], ["the", "dogs", "sat"], ["cats"], ["a"]]),
        tf.ragged.constant([[0, 1], [0, -100, 2], [1], [2]]),
    ),
    "answer": ((QUESTIONS, TEXTS), (np.array([2, 0, -1, 0]), np.array([5, 3, 0, 4]))),
    "masked": (TEXTS, None),
}


def make(name, rng):
    kwargs = {"mask_selection_length": 2} if name == "masked" else {}
    task, _ = tasks.make(name, rng)
    task.preprocessor = task.preprocessor_cls(word_piece(WORDS), 10, **kwargs)
    task.compile(loss="mse" if name == "embedder" else "auto", jit_compile=False)
    return task


def predict(task, name):
    if name == "masked":  # The preprocessor would mask at random.
        x = task.preprocessor.tokenize(TEXTS)
        positions = np.array([[1, 2]] * 4, "int32")
        return task(
            {**{n: x[n] for n in ("token_ids", "padding_mask")}, "mask_positions": positions}
        )
    return task.predict(TEXTS if name == "token" else DATA[name][0], verbose=0)


@pytest.mark.parametrize("name", DATA)
def test_fit_on_strings(rng, name):
    task = make(name, rng)
    task.run_eagerly = True  # compiling takes longer than the training
    x, y = DATA[name]
    losses = task.fit(x, y, batch_size=2, epochs=1, verbose=0).history["loss"]
    data = x if y is None else (x, y)
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(2)
    losses += task.fit(dataset, epochs=1, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and len(losses) == 2


@pytest.mark.parametrize("name", DATA)
def test_files_and_presets_keep_the_tokenizer(rng, name, tmp_path):
    task = make(name, rng)
    expected = predict(task, name)
    task.save(tmp_path / "task.keras")
    task.save_to_preset(tmp_path / "preset")
    for loaded in (
        keras.saving.load_model(tmp_path / "task.keras"),
        type(task).from_preset(str(tmp_path / "preset")),
    ):
        assert type(loaded.preprocessor) is task.preprocessor_cls
        assert loaded.preprocessor.get_config() == task.preprocessor.get_config()
        keras.tree.map_structure(np.testing.assert_array_equal, predict(loaded, name), expected)


def test_a_preset_of_one_task_gives_its_tokenizer_to_another(rng, tmp_path):
    make("text", rng).save_to_preset(tmp_path)
    task = QuestionAnswering.from_preset(str(tmp_path))
    assert type(task.preprocessor) is QuestionAnswering.preprocessor_cls
    assert task.preprocessor.tokenizer(["a cat"]) == [[5, 6]]


def test_answers_are_parts_of_the_context():
    keras.utils.set_random_seed(0)
    encoder = TransformerEncoder(**TINY_ENCODER, num_segments=2, dropout=0.0)
    preprocessor = QuestionAnswering.preprocessor_cls(word_piece(WORDS), 10)
    task = QuestionAnswering(encoder, preprocessor)
    task.compile(keras.optimizers.Adam(0.03), jit_compile=False)
    questions, contexts = ["cat", "dog", "dog", "cat"], ["a cat sat", "the dog sat"] * 2
    answers = ["a cat", "dog sat", "cat sat", "the dog"]
    starts = np.array([c.index(a) for c, a in zip(contexts, answers, strict=True)])
    y = (starts, starts + [len(answer) for answer in answers])
    task.fit((questions, contexts), y, epochs=60, verbose=0)
    found = task.answer((questions, contexts))
    assert [answer for answer, _ in found] == answers
    assert all(0.5 < probability <= 1.0 for _, probability in found)


def test_the_example_of_the_readme():
    import keras_addnorm

    readme = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = readme.split("<!-- tokenizer: run by tests/models/test_text_tasks.py -->")[1]
    *code, result = code.split("```python\n")[1].split("```")[0].strip().splitlines()
    names = {"keras_addnorm": keras_addnorm, "tokenizer_json": word_piece(WORDS).to_json()}
    exec("\n".join(code), names)  # noqa: S102
    assert eval(result, names) == ["Ada Lovelace"]  # noqa: S307
    assert names["labels"].numpy()[0, :5].tolist() == [-100, 1, 2, 0, -100]
