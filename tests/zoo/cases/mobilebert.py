"""MobileBERT."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "embedding_size": 6,
    "intra_bottleneck_size": 8,
    "num_feedforward_networks": 3,
}
CHANGED = {
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "type_vocab_size": 3,
    "normalization_type": "layer_norm",
    "layer_norm_eps": 1e-5,
    "num_feedforward_networks": 2,
    "trigram_input": False,
}
# Without norms values grow from layer to layer.
SCALE = 0.4
CASES = {
    "plain": ("MobileBertModel", {}),
    "changed": ("MobileBertModel", CHANGED),
    "masked_lm": ("MobileBertForMaskedLM", {}),
    "masked_lm, epsilon": ("MobileBertForMaskedLM", {"layer_norm_eps": 1e-2}),
    "pretraining": ("MobileBertForPreTraining", {}),
    "next sentence": ("MobileBertForNextSentencePrediction", {}),
    **heads("MobileBert"),
    "classifier, no pooler activation": (
        "MobileBertForSequenceClassification",
        {**CHANGED, "classifier_activation": False},
    ),
    "gelu, wide": ("MobileBertModel", {"hidden_act": "gelu", "intermediate_size": 70}),
    "one feed-forward network": ("MobileBertModel", {"num_feedforward_networks": 1}),
    "no trigrams": ("MobileBertModel", {"trigram_input": False}),
    "trigrams of the full width": ("MobileBertModel", {"embedding_size": 16}),
    "narrow attention": (
        "MobileBertModel",
        {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False},
    ),
    "narrow attention, unused weights": ("MobileBertModel", {"use_bottleneck_attention": True}),
    "wide attention": (
        "MobileBertModel",
        {"key_query_shared_bottleneck": False, "intra_bottleneck_size": 16},
    ),
    "no bottleneck": ("MobileBertModel", {"use_bottleneck": False}),
    "layer norm": (
        "MobileBertModel",
        {"normalization_type": "layer_norm", "layer_norm_eps": 1e-5},
    ),
    "no pooler activation": ("MobileBertModel", {"classifier_activation": False}),
    "one head": ("MobileBertModel", {"num_attention_heads": 1}),
    "pad id": ("MobileBertModel", {"pad_token_id": 7}),
    "deep": ("MobileBertModel", {"num_hidden_layers": 4}),
}
FIXTURES = ("plain", "changed", "masked_lm")
