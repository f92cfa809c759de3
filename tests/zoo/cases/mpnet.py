"""MPNet.

Its positions are numbered behind id 1 whatever `pad_token_id` says, so that there is no case with
another id of padding.
"""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
}
CASES = {
    "plain": ("MPNetModel", {}),
    "gelu_new": ("MPNetModel", {"hidden_act": "gelu_new"}),
    "relu, wide": ("MPNetModel", {"hidden_act": "relu", "intermediate_size": 70}),
    "large epsilon": ("MPNetModel", {"layer_norm_eps": 1e-1}),
    "one head": ("MPNetModel", {"num_attention_heads": 1}),
    "short": ("MPNetModel", {"max_position_embeddings": 14}),
    "deep": ("MPNetModel", {"num_hidden_layers": 5}),
    **heads("MPNet"),
}
FIXTURES = ("plain", "answers")
