"""ELECTRA."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "embedding_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
CASES = {
    "plain": ("ElectraModel", {}),
    "no projection": ("ElectraModel", {"embedding_size": 16}),
    "wide embeddings": ("ElectraModel", {"embedding_size": 20}),
    "gelu_new": ("ElectraModel", {"hidden_act": "gelu_new"}),
    "relu, wide": ("ElectraModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "large epsilon": ("ElectraModel", {"layer_norm_eps": 1e-1}),
    "one head": ("ElectraModel", {"num_attention_heads": 1}),
    "one segment": ("ElectraModel", {"type_vocab_size": 1}),
    "five segments": ("ElectraModel", {"type_vocab_size": 5}),
    "short": ("ElectraModel", {"max_position_embeddings": 12}),
    "pad id": ("ElectraModel", {"pad_token_id": 7}),
    "deep": ("ElectraModel", {"num_hidden_layers": 5}),
    **heads("Electra"),
    "discriminator": ("ElectraForPreTraining", {"hidden_act": "relu"}),
}
FIXTURES = ("plain", "discriminator")

_HUB = {"vocab_size": 29, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HUB = [
    {**_HUB, "num_heads": 4, "embedding_dim": 8},
    {**_HUB, "num_heads": 2, "embedding_dim": 16, "num_segments": 3, "max_sequence_length": 14},
]
