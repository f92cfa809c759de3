"""RoBERTa. XLM-RoBERTa has the same cases under its own names."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
CASES = {
    "plain": ("RobertaModel", {}),
    "gelu_new": ("RobertaModel", {"hidden_act": "gelu_new"}),
    "relu, wide": ("RobertaModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "large epsilon": ("RobertaModel", {"layer_norm_eps": 1e-1}),
    "one head": ("RobertaModel", {"num_attention_heads": 1}),
    "two segments": ("RobertaModel", {"type_vocab_size": 2}),
    "short": ("RobertaModel", {"max_position_embeddings": 14}),
    "first id is padding": ("RobertaModel", {"pad_token_id": 0}),
    "a later id is padding": ("RobertaModel", {"pad_token_id": 5}),
    "deep": ("RobertaModel", {"num_hidden_layers": 5}),
    **heads("Roberta"),
}
FIXTURES = ("plain", "classifier")

_HUB = {"vocabulary_size": 29, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HUB = [
    {**_HUB, "num_heads": 4},
    {**_HUB, "num_heads": 2, "max_sequence_length": 14, "dropout": 0.0},
]
