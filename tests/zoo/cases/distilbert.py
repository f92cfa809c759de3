"""DistilBERT."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "dim": 16,
    "n_layers": 2,
    "hidden_dim": 24,
    "n_heads": 4,
    "max_position_embeddings": 16,
}
CASES = {
    "plain": ("DistilBertModel", {}),
    "gelu_new": ("DistilBertModel", {"activation": "gelu_new"}),
    "relu, wide": ("DistilBertModel", {"activation": "relu", "hidden_dim": 70}),
    "one head": ("DistilBertModel", {"n_heads": 1}),
    "a feature a head": ("DistilBertModel", {"n_heads": 16}),
    "short": ("DistilBertModel", {"max_position_embeddings": 12}),
    "sinusoids": ("DistilBertModel", {"sinusoidal_pos_embds": True}),
    "pad id": ("DistilBertModel", {"pad_token_id": 7}),
    "deep": ("DistilBertModel", {"n_layers": 5}),
    "dropouts": ("DistilBertModel", {"dropout": 0.3, "attention_dropout": 0.2}),
    **heads("DistilBert", "activation"),
}
FIXTURES = ("plain", "classifier")

_HUB = {"vocabulary_size": 29, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HUB = [
    {**_HUB, "num_heads": 4},
    {**_HUB, "num_heads": 2, "max_sequence_length": 14, "dropout": 0.0},
]
