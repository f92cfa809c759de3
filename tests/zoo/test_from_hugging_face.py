"""Checkpoints give the outputs that transformers gave (tests/zoo/make_reference.py)."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_addnorm import zoo
from tests.common import to_numpy
from tests.zoo.common import (
    DATA,
    HIDDEN_STATES,
    copy_checkpoint,
    edit_tensors,
    make_sentence_transformer,
    needs_weights,
    reference,
)


def test_config_keys_reach_the_encoder():
    encoder = zoo.from_hugging_face(DATA / "bert_masked_lm")
    config = encoder.get_config()
    assert (config["activation"], config["epsilon"]) == ("gelu_tanh", 1e-3)
    assert (config["num_heads"], config["num_segments"]) == (2, 3)
    assert (config["max_sequence_length"], config["pooler"]) == (20, None)


@pytest.mark.parametrize("key, value", [("hidden_act", "relu"), ("layer_norm_eps", 0.5)])
def test_a_key_that_changes_the_function_changes_the_outputs(tmp_path, key, value):
    inputs, expected = reference(DATA / "bert_plain" / "reference.safetensors")
    changed = zoo.from_hugging_face(copy_checkpoint(tmp_path, **{key: value}))
    difference = to_numpy(changed(inputs)["sequence_output"]) - expected["sequence_output"]
    assert np.abs(difference).max() > 100 * HIDDEN_STATES


def test_legacy_names_of_the_norms(tmp_path):
    folder = copy_checkpoint(tmp_path)

    def rename(tensors):
        for name in [name for name in tensors if "LayerNorm" in name]:
            new = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            tensors[new] = tensors.pop(name)

    edit_tensors(folder, rename)
    inputs, expected = reference(DATA / "bert_plain" / "reference.safetensors")
    outputs = to_numpy(zoo.from_hugging_face(folder)(inputs)["sequence_output"])
    np.testing.assert_allclose(outputs, expected["sequence_output"], atol=HIDDEN_STATES, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_checkpoints_are_read(tmp_path, dtype):
    folder = copy_checkpoint(tmp_path)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        halves = {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()}
    else:
        halves = {name: value.astype("float16") for name, value in tensors.items()}
    save_file(halves, path)
    encoder = zoo.from_hugging_face(folder)
    name = "embeddings.word_embeddings.weight"
    read = to_numpy(encoder.token_embedding.embeddings)
    np.testing.assert_array_equal(read, halves[name].astype("float32"))


def test_shards_are_read(tmp_path):
    folder = copy_checkpoint(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    inputs, expected = reference(DATA / "bert_plain" / "reference.safetensors")
    outputs = to_numpy(zoo.from_hugging_face(folder)(inputs)["sequence_output"])
    np.testing.assert_allclose(outputs, expected["sequence_output"], atol=HIDDEN_STATES, rtol=0)


@pytest.mark.parametrize(
    ("pooling", "normalize"),
    [("mean", True), ("mean", False), ("cls", True), ("max", False)]
    + [("last", True), ("weighted_mean", True)],
)
def test_sentence_transformers_modules(tmp_path, pooling, normalize):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path), pooling, normalize)
    embedder = zoo.from_hugging_face(folder, task="embed")
    assert (embedder.pooling, embedder.normalize) == (pooling, normalize)
    assert embedder.preprocessor.sequence_length == 16
    embeddings = embedder.encode_text(["A cat sits on the mat.", "Café déjà-vu!"])
    assert embeddings.shape == (2, 16)
    lengths = np.linalg.norm(embeddings, axis=-1)
    assert normalize == bool(np.allclose(lengths, 1.0, atol=1e-6))


def test_without_modules_mean_pooling_as_in_sentence_transformers(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    (folder / "modules.json").unlink()
    embedder = zoo.from_hugging_face(folder, task="embed")
    assert (embedder.pooling, embedder.normalize) == ("mean", False)


@pytest.mark.parametrize("mode", ["cls", "lasttoken", "weightedmean"])
def test_new_style_pooling_config(tmp_path, mode):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    path = folder / "1_Pooling" / "config.json"
    path.write_text(json.dumps({"embedding_dimension": 16, "pooling_mode": mode}))
    want = {"cls": "cls", "lasttoken": "last", "weightedmean": "weighted_mean"}[mode]
    assert zoo.from_hugging_face(folder, task="embed").pooling == want


def test_accents_are_stripped_where_the_tokenizer_lowercases(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    tokenizer = zoo.from_hugging_face(folder, task="embed").preprocessor.tokenizer
    ids = list(np.asarray(tokenizer("Café DÉJÀ vu")))
    assert [tokenizer.id_to_token(int(i)) for i in ids] == ["cafe", "deja", "vu"]


@needs_weights
def test_minilm_hidden_states_equal_those_of_transformers():
    encoder = zoo.from_hugging_face("minilm")
    inputs, expected = reference(DATA / "minilm_reference.safetensors")
    outputs = encoder(inputs)
    for key in expected:
        difference = np.abs(to_numpy(outputs[key]) - expected[key]).max()
        assert difference <= HIDDEN_STATES, f"{key}: {difference}"


def test_a_truncating_embedder_is_not_written(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    embedder = zoo.from_hugging_face(folder, task="embed")
    arguments = {**embedder.get_config(), "output_dim": 4}
    embedder = type(embedder).from_config(arguments)
    with pytest.raises(ValueError, match="truncate_dim=4"):
        zoo.to_hugging_face(embedder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
