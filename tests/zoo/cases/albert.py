"""ALBERT."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "embedding_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
CASES = {
    "plain": ("AlbertModel", {}),
    "embeddings as wide as blocks": ("AlbertModel", {"embedding_size": 16}),
    "gelu": ("AlbertModel", {"hidden_act": "gelu"}),
    "relu, wide": ("AlbertModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "large epsilon": ("AlbertModel", {"layer_norm_eps": 1e-1}),
    "one head": ("AlbertModel", {"num_attention_heads": 1}),
    "one segment": ("AlbertModel", {"type_vocab_size": 1}),
    "five segments": ("AlbertModel", {"type_vocab_size": 5}),
    "short": ("AlbertModel", {"max_position_embeddings": 12}),
    "pad id": ("AlbertModel", {"pad_token_id": 7}),
    "one layer": ("AlbertModel", {"num_hidden_layers": 1}),
    "pretraining": ("AlbertForPreTraining", {}),
    **heads("Albert"),
}
FIXTURES = ("plain", "masked_lm_untied")

_HUB = {"vocabulary_size": 29, "num_layers": 3, "hidden_dim": 16, "intermediate_dim": 24}
HUB = [
    {**_HUB, "num_heads": 4, "embedding_dim": 8},
    {**_HUB, "num_heads": 2, "embedding_dim": 16, "num_segments": 3, "max_sequence_length": 14},
]
