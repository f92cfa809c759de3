"""DeBERTa-v2 and v3."""

from tests.zoo.cases.text_heads import heads

# As DeBERTaV3, with less of everything.
BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
# As DeBERTa-v2 before its last version: all that v3 has not.
V2 = {
    "position_buckets": -1,
    "max_relative_positions": 5,
    "norm_rel_ebd": "none",
    "share_att_key": False,
    "position_biased_input": True,
    "type_vocab_size": 2,
    "conv_kernel_size": 3,
}
CASES = {
    "plain": ("DebertaV2Model", {}),
    "v2": ("DebertaV2Model", {**V2, "position_biased_input": False}),
    "v2 with positions": ("DebertaV2Model", V2),
    "v2 xlarge": ("DebertaV2Model", {"conv_kernel_size": 3, "conv_act": "gelu"}),
    "wide convolution": (
        "DebertaV2Model",
        {"conv_kernel_size": 5, "conv_groups": 4, "conv_act": "relu"},
    ),
    "c2p": ("DebertaV2Model", {"pos_att_type": ["c2p"]}),
    "p2c": ("DebertaV2Model", {"pos_att_type": "P2C"}),
    "c2p of its own": ("DebertaV2Model", {"pos_att_type": "c2p", "share_att_key": False}),
    "p2c of its own": ("DebertaV2Model", {"pos_att_type": "p2c", "share_att_key": False}),
    "own keys": ("DebertaV2Model", {"share_att_key": False}),
    "odd buckets": ("DebertaV2Model", {"position_buckets": 5, "max_relative_positions": 9}),
    "far": ("DebertaV2Model", {"position_buckets": 4, "max_relative_positions": 512}),
    "no buckets": ("DebertaV2Model", {"position_buckets": -1}),
    "no buckets, near": ("DebertaV2Model", {"position_buckets": 0, "max_relative_positions": 3}),
    "no norm of distances": ("DebertaV2Model", {"norm_rel_ebd": "none"}),
    "two norms named": ("DebertaV2Model", {"norm_rel_ebd": "none|layer_norm"}),
    "positions too": ("DebertaV2Model", {"position_biased_input": True}),
    "segments": ("DebertaV2Model", {"type_vocab_size": 3}),
    "one segment": ("DebertaV2Model", {"type_vocab_size": 1, "position_biased_input": True}),
    "narrow embeddings": (
        "DebertaV2Model",
        {"embedding_size": 6, "type_vocab_size": 2, "position_biased_input": True},
    ),
    "absolute": (
        "DebertaV2Model",
        {
            "relative_attention": False,
            "pos_att_type": None,
            "norm_rel_ebd": "none",
            "position_biased_input": True,
        },
    ),
    "no positions": (
        "DebertaV2Model",
        {
            "relative_attention": False,
            "pos_att_type": [],
            "norm_rel_ebd": "none",
            "conv_kernel_size": 3,
        },
    ),
    "head size": ("DebertaV2Model", {"attention_head_size": 4}),
    "one head": ("DebertaV2Model", {"num_attention_heads": 1}),
    "a feature a head": ("DebertaV2Model", {"num_attention_heads": 16}),
    "gelu_new": ("DebertaV2Model", {"hidden_act": "gelu_new"}),
    "relu, wide": ("DebertaV2Model", {"hidden_act": "relu", "intermediate_size": 70}),
    "large epsilon": ("DebertaV2Model", {"layer_norm_eps": 1e-1, "conv_kernel_size": 3}),
    "pad id": ("DebertaV2Model", {"pad_token_id": 7}),
    "deep": ("DebertaV2Model", {"num_hidden_layers": 5}),
    **heads("DebertaV2"),
    "v2_classifier": (
        "DebertaV2ForSequenceClassification",
        {**V2, "pooler_hidden_act": "tanh", "pooler_dropout": 0.2, "cls_dropout": 0.3},
    ),
    "masked_lm": ("DebertaV2ForMaskedLM", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
    "masked_lm, narrow": ("DebertaV2ForMaskedLM", {"embedding_size": 6}),
    "masked_lm, new": ("DebertaV2ForMaskedLM", {"legacy": False}),
}
FIXTURES = ("plain", "v2", "v2_classifier", "masked_lm")

_HUB = {
    "vocabulary_size": 29,
    "num_layers": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
}
HUB = [
    {**_HUB, "num_heads": 4},
    {**_HUB, "num_heads": 2, "bucket_size": 4, "max_sequence_length": 14, "dropout": 0.0},
]
