"""Tasks from checkpoints take strings, and give their tokenizers back."""

import numpy as np
import pytest

from keras_addnorm import zoo
from tests.common import to_numpy, word_piece
from tests.zoo.common import copy_checkpoint, edit_json

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]
TEXTS = ["A cat sat", "the dogs"]
# Checkpoints with a head, and the class of its task.
TASKS = {
    "bert_tokens": "TokenClassifier",
    "distilbert_classifier": "TextClassifier",
    "roberta_classifier": "TextClassifier",
    "xlm-roberta_tokens": "TokenClassifier",
    "electra_discriminator": "TokenClassifier",
    "mpnet_answers": "QuestionAnswering",
    "deberta-v2_masked_lm": "MaskedLM",
    "modernbert_masked_lm": "MaskedLM",
    "nomic_bert_masked_lm": "MaskedLM",
    "esm_masked_lm": "MaskedLM",
    "mobilebert_masked_lm": "MaskedLM",
}


def with_tokenizer(folder):
    word_piece(WORDS).save_assets(folder)
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    edit_json(folder / "tokenizer_config.json", model_max_length=9, **roles)
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_the_tokenizer_of_its_checkpoint(tmp_path, name):
    folder = with_tokenizer(copy_checkpoint(tmp_path, name))
    task = zoo.from_hugging_face(folder, task="auto")
    assert type(task).__name__ == TASKS[name]
    assert type(task.preprocessor) is task.preprocessor_cls
    assert task.preprocessor.sequence_length == 9
    tokens = task.preprocessor.tokenize(TEXTS)
    np.testing.assert_array_equal(tokens["token_ids"][0], [2, 5, 6, 7, 3, 0, 0, 0, 0])
    zoo.to_hugging_face(task, tmp_path / "back", model_type=task_family(folder))
    again = zoo.from_hugging_face(tmp_path / "back", task="auto")
    assert again.preprocessor.get_config() | {"name": 0, "tokenizer": 0} == (
        task.preprocessor.get_config() | {"name": 0, "tokenizer": 0}
    )
    np.testing.assert_array_equal(again.preprocessor.tokenizer("the cats"), [10, 6, 8])
    inputs = {key: tokens[key] for key in task.input if key in tokens}
    if "mask_positions" in task.input:
        inputs["mask_positions"] = np.array([[1], [2]], "int32")
    outputs, expected = (
        model(inputs) if isinstance(model(inputs), dict) else {"logits": model(inputs)}
        for model in (again, task)
    )
    for key, value in expected.items():
        np.testing.assert_array_equal(to_numpy(outputs[key]), to_numpy(value))


def task_family(folder):
    return zoo.convert.read_config(folder)[0].model_type


def test_strings_in(tmp_path):
    task = zoo.from_hugging_face(
        with_tokenizer(copy_checkpoint(tmp_path, "roberta_classifier")), task="classify"
    )
    inputs = task.preprocessor.tokenize(TEXTS)
    expected = to_numpy(task({name: inputs[name] for name in task.input}))
    task.compile(jit_compile=False)
    np.testing.assert_allclose(task.predict(TEXTS, verbose=0), expected, atol=1e-5)


def test_preprocessors_of_others_are_not_written(tmp_path):
    import keras_hub

    task = zoo.from_hugging_face(
        with_tokenizer(copy_checkpoint(tmp_path, "distilbert_classifier")), task="classify"
    )
    tokenizer = keras_hub.models.BertTokenizer(WORDS, lowercase=True)
    task.preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, 8)
    with pytest.raises(ValueError, match="Set the model's `preprocessor` to None"):
        zoo.to_hugging_face(task, tmp_path / "back")
    assert not (tmp_path / "back").exists()
