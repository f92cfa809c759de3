"""BERT."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
}
CHANGED = {
    "num_attention_heads": 2,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-3,
    "type_vocab_size": 3,
    "max_position_embeddings": 20,
}
CASES = {
    "plain": ("BertModel", {}),
    "masked_lm": ("BertForMaskedLM", CHANGED),
    "gelu_new": ("BertModel", {"hidden_act": "gelu_new"}),
    "relu, wide": ("BertModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "silu": ("BertModel", {"hidden_act": "silu"}),
    "tanh": ("BertModel", {"hidden_act": "tanh"}),
    "large epsilon": ("BertModel", {"layer_norm_eps": 1e-1}),
    "one head": ("BertModel", {"num_attention_heads": 1}),
    "a feature a head": ("BertModel", {"num_attention_heads": 16}),
    "one segment": ("BertModel", {"type_vocab_size": 1}),
    "five segments": ("BertModel", {"type_vocab_size": 5}),
    "short": ("BertModel", {"max_position_embeddings": 12}),
    "pad id": ("BertModel", {"pad_token_id": 7}),
    "deep": ("BertModel", {"num_hidden_layers": 5}),
    "pretraining": ("BertForPreTraining", {}),
    "next sentence": ("BertForNextSentencePrediction", {}),
    **heads("Bert"),
}
FIXTURES = ("plain", "masked_lm", "tokens")

_HUB = {"vocabulary_size": 29, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HUB = [
    {**_HUB, "num_heads": 4},
    {**_HUB, "num_heads": 2, "num_segments": 3, "max_sequence_length": 14, "dropout": 0.0},
]
