"""NomicBERT."""

from tests.zoo.cases.text_heads import heads, without

BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
}
CHANGED = {
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-3,
    "type_vocab_size": 3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
}
CASES = {
    "plain": ("NomicBertModel", {}),
    "changed": ("NomicBertModel", CHANGED),
    "masked_lm": ("NomicBertForMaskedLM", CHANGED),
    **without("answers", heads("NomicBert")),
    "relu, wide": ("NomicBertModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "one head": ("NomicBertModel", {"num_attention_heads": 1}),
    "wide heads": ("NomicBertModel", {"head_dim": 6}),
    "one segment": ("NomicBertModel", {"type_vocab_size": 1}),
    "pad id": ("NomicBertModel", {"pad_token_id": 7}),
    "linear scaling": (
        "NomicBertModel",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}},
    ),
    "deep": ("NomicBertModel", {"num_hidden_layers": 5}),
}
FIXTURES = ("plain", "changed", "masked_lm")
