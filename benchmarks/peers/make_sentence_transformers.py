"""all-MiniLM-L6-v2 as fastembed takes it: the encoder as ONNX, and its tokenizer, in a folder.

    python make_sentence_transformers.py CHECKPOINT OUT

fastembed downloads such a folder, pools and normalizes by itself. The checkpoint's tokenizer asks
to pad every text to 128 tokens; that is taken out, so that fastembed pads to the longest
of a batch.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
COPIED = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Encoder(torch.nn.Module):
    """Ids, mask and segments `(batch, length)` to hidden states."""

    def __init__(self, checkpoint):
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(checkpoint, add_pooling_layer=False)
        self.eval()

    def forward(self, *inputs):
        return self.encoder(**dict(zip(INPUTS, inputs, strict=True))).last_hidden_state


def main(checkpoint, out):
    """Writes the folder."""
    folder = pathlib.Path(out) / "fastembed"
    folder.mkdir(parents=True, exist_ok=True)
    ids = torch.randint(1000, 20000, (2, 24))
    mask = torch.ones_like(ids)
    mask[:, -1] = 0  # So that the mask is not folded away.
    names = (*INPUTS, "last_hidden_state")
    torch.onnx.export(
        Encoder(checkpoint),
        (ids, mask, 0 * ids),
        str(folder / "model.onnx"),
        input_names=list(INPUTS),
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
        dynamo=False,
    )
    for name in COPIED:
        shutil.copyfile(pathlib.Path(checkpoint) / name, folder / name)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding": None}))


if __name__ == "__main__":
    main(*sys.argv[1:])
