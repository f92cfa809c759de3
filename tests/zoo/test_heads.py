"""Rules of heads that the checkpoints of tests/zoo/cases do not show."""

import numpy as np
import pytest

from keras_addnorm import models, zoo
from keras_addnorm.zoo.sources import read_object
from tests.common import to_numpy
from tests.zoo.common import (
    DATA,
    HIDDEN_STATES,
    copy_checkpoint,
    edit_json,
    edit_tensors,
    reference,
)

TABLE = "bert.embeddings.word_embeddings.weight"


def load(folder, task="auto"):
    return zoo.from_hugging_face(folder, task=task, preprocessor=None)


def distilbert(task_arguments, cls=models.TextClassifier):
    return cls(zoo.from_hugging_face(DATA / "distilbert_plain"), **task_arguments)


def test_labels_are_kept(tmp_path):
    task = load(DATA / "bert_tokens")
    assert task.labels == ("O", "B-PER", "I-PER")
    zoo.to_hugging_face(task, tmp_path / "new")
    config = read_object(tmp_path / "new", "config.json")
    assert config["id2label"] == {"0": "O", "1": "B-PER", "2": "I-PER"}
    assert config["label2id"] == {"O": 0, "B-PER": 1, "I-PER": 2}


def test_classes_without_names_get_those_of_transformers(tmp_path):
    hidden = {"hidden_dim": 16, "activation": "relu"}
    task = distilbert({"num_classes": 4, "dropout": 0.3, "head_options": hidden})
    zoo.to_hugging_face(task, tmp_path / "new")
    config = read_object(tmp_path / "new", "config.json")
    assert config["id2label"] == {str(i): f"LABEL_{i}" for i in range(4)}
    assert config["seq_classif_dropout"] == 0.3
    assert load(tmp_path / "new").labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_several_classes_a_text_have_a_sigmoid(tmp_path):
    problem = {"problem_type": "multi_label_classification"}
    task = load(copy_checkpoint(tmp_path, "distilbert_classifier", **problem))
    assert task.activation == "sigmoid"
    inputs, expected = reference(DATA / "distilbert_classifier" / "reference.safetensors")
    outputs = to_numpy(task({name: inputs[name] for name in task.input}))
    want = 1.0 / (1.0 + np.exp(-expected["logits"].astype("float64")))
    assert np.abs(outputs - want).max() <= HIDDEN_STATES
    zoo.to_hugging_face(task, tmp_path / "new")
    assert read_object(tmp_path / "new", "config.json")["problem_type"] == problem["problem_type"]


@pytest.mark.parametrize(
    ("fixture", "keys", "problem"),
    [
        ("bert_tokens", {"id2label": {"0": "O", "2": "X"}}, "`id2label` must map '0', '1'"),
        ("bert_tokens", {"id2label": {"0": "O"}}, r"`classifier.weight` has shape \(3, 16\)"),
        ("bert_tokens", {"classifier_dropout": 2}, "`classifier_dropout` must be a number"),
        ("distilbert_classifier", {"problem_type": "guess"}, "`problem_type` must be one of"),
        ("mpnet_answers", {"id2label": {"0": "start"}}, "`id2label` must name 2 labels"),
        ("bert_masked_lm", {"tie_word_embeddings": "yes"}, "`tie_word_embeddings` must be true"),
    ],
)
def test_keys_of_heads_that_are_refused(tmp_path, fixture, keys, problem):
    with pytest.raises(zoo.CheckpointError, match=problem):
        load(copy_checkpoint(tmp_path, fixture, **keys))


def test_a_head_needs_its_pooler(tmp_path):
    folder = copy_checkpoint(tmp_path, "bert_tokens")
    edit_json(folder / "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(zoo.CheckpointError, match="tensor `bert.pooler.dense.weight` is missing"):
        load(folder)


def test_tied_weights_of_older_files_must_be_copies(tmp_path):
    folder = copy_checkpoint(tmp_path, "bert_masked_lm")

    def add(tensors):
        tensors["cls.predictions.decoder.weight"] = tensors[TABLE].copy()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].copy()

    edit_tensors(folder, add)
    assert load(folder).tie_weights

    edit_tensors(folder, lambda tensors: tensors["cls.predictions.decoder.weight"].fill(1.0))
    with pytest.raises(zoo.CheckpointError, match="decoder.weight` must be a copy of `bert.embed"):
        load(folder)


def test_what_else_pretraining_left_is_ignored(tmp_path):
    """As in the published BERT checkpoints: BertForMaskedLM's, with next sentence prediction."""
    folder = copy_checkpoint(tmp_path, "bert_masked_lm")

    def add(tensors):
        tensors["cls.seq_relationship.weight"] = np.zeros((2, 16), "float32")
        tensors["cls.seq_relationship.bias"] = np.zeros(2, "float32")

    edit_tensors(folder, add)
    assert type(load(folder)) is models.MaskedLM
    edit_tensors(folder, lambda tensors: tensors.update(new=np.zeros(1, "float32")))
    with pytest.raises(zoo.CheckpointError, match="tensor `new` is not understood"):
        load(folder)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"activation": "softmax"}, "it can say only None, 'sigmoid', not 'softmax'"),
        ({"pooling": "mean"}, "`pooling` is 'mean', not 'cls'"),
        ({"head_options": {"hidden_dim": 8}}, "`head_options` is {'hidden_dim': 8}, not {"),
    ],
)
def test_a_head_that_no_class_has_is_not_written(tmp_path, arguments, reason):
    with pytest.raises(ValueError, match="No family says exactly") as error:
        zoo.to_hugging_face(distilbert({"num_classes": 2, **arguments}), tmp_path / "new")
    assert reason in str(error.value)
    assert not (tmp_path / "new").exists()


def test_the_family_is_one_that_has_the_head(tmp_path):
    """ELECTRA's base encoder is BERT's without pooler; BERT has no head for replaced tokens."""
    encoder = models.TransformerEncoder(
        **{"vocabulary_size": 29, "num_layers": 1, "num_heads": 2, "hidden_dim": 8},
        **{"intermediate_dim": 12, "activation": "gelu", "epsilon": 1e-12, "num_segments": 2},
        **{"position": "learned", "embedding_norm": True, "max_sequence_length": 16},
    )
    zoo.to_hugging_face(models.TokenClassifier(encoder, 3), tmp_path / "bert")
    assert read_object(tmp_path / "bert", "config.json")["model_type"] == "bert"
    hidden = {"hidden_dim": 8, "activation": "gelu"}
    task = models.TokenClassifier(encoder, 1, head_options=hidden)
    zoo.to_hugging_face(task, tmp_path / "electra")
    config = read_object(tmp_path / "electra", "config.json")
    assert config["architectures"] == ["ElectraForPreTraining"]
    with pytest.raises(ValueError, match="closest is 'bert', but: BertForTokenClassification: `h"):
        zoo.to_hugging_face(task, tmp_path / "new", model_type="bert")
