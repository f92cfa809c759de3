"""ModernBERT."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "local_attention": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
# Sharp scores would make more of float32's rounding.
SCALE = 0.4
_LINEAR = {"rope_type": "linear", "rope_theta": 90.0, "factor": 2.0}
CHANGED = {
    "num_attention_heads": 2,
    "hidden_activation": "silu",
    "norm_eps": 1e-3,
    "norm_bias": True,
    "attention_bias": True,
    "mlp_bias": True,
    "local_attention": 7,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
    },
}
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
CASES = {
    "plain": ("ModernBertModel", {}),
    "changed": ("ModernBertModel", CHANGED),
    "masked_lm": ("ModernBertForMaskedLM", CHANGED),
    "masked_lm, no decoder bias": ("ModernBertForMaskedLM", {"decoder_bias": False}),
    **heads("ModernBert", "hidden_activation"),
    "classifier_mean": (
        "ModernBertForSequenceClassification",
        {**CHANGED, "classifier_pooling": "mean", "classifier_bias": True},
    ),
    "tokens, relu": ("ModernBertForTokenClassification", {"classifier_activation": "relu"}),
    "answers, changed": ("ModernBertForQuestionAnswering", CHANGED),
    "relu, wide": ("ModernBertModel", {"hidden_activation": "relu", "intermediate_size": 70}),
    "norm bias": ("ModernBertModel", {"norm_bias": True}),
    "attention bias": ("ModernBertModel", {"attention_bias": True}),
    "mlp bias": ("ModernBertModel", {"mlp_bias": True}),
    "one head": ("ModernBertModel", {"num_attention_heads": 1}),
    "self only": ("ModernBertModel", {"local_attention": 1}),
    "window of two": ("ModernBertModel", {"local_attention": 2}),
    "pad id": ("ModernBertModel", {"pad_token_id": 7}),
    "all global": ("ModernBertModel", {"layer_types": [_GLOBAL] * 4}),
    "all local": ("ModernBertModel", {"layer_types": [_LOCAL] * 4}),
    "no pattern": ("ModernBertModel", {"layer_types": [_LOCAL, _GLOBAL, _GLOBAL, _LOCAL]}),
    "every second": (
        "ModernBertModel",
        {"layer_types": [_GLOBAL, _LOCAL] * 3, "num_hidden_layers": 6},
    ),
    "linear scaling": (
        "ModernBertModel",
        {"rope_parameters": {_GLOBAL: _LINEAR, _LOCAL: {"rope_type": "default"}}},
    ),
    "dropout": (
        "ModernBertModel",
        {"embedding_dropout": 0.1, "mlp_dropout": 0.2, "attention_dropout": 0.3},
    ),
    "one layer": ("ModernBertModel", {"num_hidden_layers": 1}),
}
FIXTURES = ("plain", "changed", "classifier_mean", "masked_lm")
