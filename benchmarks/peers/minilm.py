"""all-MiniLM-L6-v2 in torch: transformers' encoder, and the mean of real positions, normalized."""

import torch
import transformers

NAMES = ("token_ids", "padding_mask", "segment_ids")


class Embedder(torch.nn.Module):
    """Maps ids, mask and segments `(batch, length)` to embeddings `(batch, 384)`.

    Args:
        checkpoint: folder of the checkpoint.
        attention: transformers' implementation, `"sdpa"` or `"eager"`.
        dtype: of the weights and the arithmetic.
    """

    def __init__(self, checkpoint, attention="sdpa", dtype=torch.float32):
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(
            str(checkpoint), attn_implementation=attention, dtype=dtype, add_pooling_layer=False
        )
        self.eval()

    def forward(self, token_ids, padding_mask, segment_ids):
        states = self.encoder(
            input_ids=token_ids, attention_mask=padding_mask, token_type_ids=segment_ids
        ).last_hidden_state
        weights = padding_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=-1)


def example(batch, length):
    """Inputs of a shape, with one padded position in it, so that no mask is folded away."""
    ids = torch.randint(1000, 20000, (batch, length))
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[:, -1] = 0
    return dict(zip(NAMES, (ids, mask, torch.zeros_like(ids)), strict=True))
