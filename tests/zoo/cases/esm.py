"""ESM-2, and ESM-1b with learned positions."""

from tests.zoo.cases.text_heads import heads

BASE = {
    "vocab_size": 29,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "pad_token_id": 1,
    "mask_token_id": 5,  # a token of one in 29, so that rows hold it
    "position_embedding_type": "rotary",
    "token_dropout": True,
    "emb_layer_norm_before": False,
    "layer_norm_eps": 1e-5,
}
ABSOLUTE = {"position_embedding_type": "absolute", "emb_layer_norm_before": True}
CASES = {
    "plain": ("EsmModel", {}),
    "absolute": ("EsmModel", {**ABSOLUTE, "token_dropout": False, "num_attention_heads": 2}),
    "masked_lm": ("EsmForMaskedLM", {}),
    "masked_lm, absolute": ("EsmForMaskedLM", ABSOLUTE),
    **{
        name: case
        for name, case in heads("Esm").items()
        if name not in ("answers", "masked_lm_relu")  # it has one activation
    },
    "no token dropout": ("EsmModel", {"token_dropout": False}),
    "embedding norm": ("EsmModel", {"emb_layer_norm_before": True}),
    "null norm": ("EsmModel", {"emb_layer_norm_before": None}),
    "absolute, pad id": ("EsmModel", {**ABSOLUTE, "pad_token_id": 3}),
    "absolute, pad zero": ("EsmModel", {**ABSOLUTE, "pad_token_id": 0}),
    "theta": ("EsmModel", {"rope_theta": 50.0}),
    "many mask tokens": ("EsmModel", {"vocab_size": 6}),
    "wide": ("EsmModel", {"intermediate_size": 70}),
    "one head": ("EsmModel", {"num_attention_heads": 1}),
    "large epsilon": ("EsmModel", {"layer_norm_eps": 1e-1}),
    "deep": ("EsmModel", {"num_hidden_layers": 5}),
}
FIXTURES = ("plain", "absolute", "masked_lm")

_HUB = {
    "vocabulary_size": 29,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "max_sequence_length": 20,
}
HUB = [
    _HUB,
    {**_HUB, "pad_token_id": 1, "use_pre_layer_norm": True, "layer_norm_eps": 1e-3},
    {**_HUB, "position_embedding_type": "absolute", "pad_token_id": 1, "activation": "relu"},
    {**_HUB, "use_bias": False, "max_wavelength": 50, "num_heads": 2, "dropout": 0.0},
]
