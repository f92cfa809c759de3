"""NomicBERT: post-norm, rotary positions, SwiGLU, no biases but those of the norms.

Source: Nussbaum et al., arXiv:2402.01613; names as in the files of transformers' `NomicBertModel`,
which are those of Nomic AI. The keys of Nomic AI's own config.json are read too.
"""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.config import ACTIVATIONS, IGNORED_KEYS
from keras_addnorm.zoo.family import Family, Preset, Published
from keras_addnorm.zoo.shared import bert_like, heads
from keras_addnorm.zoo.shared.rope import read_rotation, rotation_keys
from keras_addnorm.zoo.weight import dense, norm

_MAX_WAVELENGTH = 1000.0
_FIXED = {
    "residual": "post_norm",
    "norm": "layer_norm",
    "position": "rotary",
    "embedding_norm": True,
    "feed_forward_options": {"gated": True, "use_bias": False},
    "pooler": "tanh",
}

_EMBEDDINGS = (*bert_like.BERT_EMBEDDINGS[:3], "emb_ln")


def _encoder_config(config):
    if "n_embd" in config:
        return _read_older(config)
    config.encoder_only()
    hidden_dim = config.integer("hidden_size", high=MAX_SIZE)
    num_heads = config.integer("num_attention_heads", high=MAX_SIZE)
    key_dim = config.optional("head_dim", config.integer, high=MAX_SIZE)
    if key_dim is None or key_dim * num_heads == hidden_dim:
        config.heads_divide(hidden_dim, num_heads)
        key_dim = None
    theta = config.optional("rope_theta", config.number, 1e-3, 1e12) or _MAX_WAVELENGTH
    parameters = config.mapping("rope_parameters")
    return {
        **_FIXED,
        "vocabulary_size": config.integer("vocab_size", high=MAX_SIZE),
        "num_layers": config.integer("num_hidden_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("intermediate_size", high=MAX_SIZE),
        "dropout": config.number("hidden_dropout_prob", 0.0, 0.999, default=0.0),
        "attention_dropout": config.number("attention_probs_dropout_prob", 0.0, 0.999, default=0.0),
        "activation": config.mapped("hidden_act", ACTIVATIONS, default="silu"),
        "epsilon": config.number("layer_norm_eps", 1e-30, 1.0, default=1e-12),
        "max_sequence_length": config.integer("max_position_embeddings", high=MAX_SIZE),
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE, default=2),
        "position_options": read_rotation(config, "rope_parameters", parameters, theta),
        "attention_options": _attention_options(key_dim),
    }


def _attention_options(key_dim):
    return {"use_bias": False} if key_dim is None else {"use_bias": False, "key_dim": key_dim}


def _config_keys(config):
    keys = {
        **bert_like.config_keys(config),
        "type_vocab_size": config["num_segments"],
        "rope_parameters": rotation_keys(config["position_options"]),
    }
    if "key_dim" in config["attention_options"]:
        keys["head_dim"] = config["attention_options"]["key_dim"]
    return keys


_OLDER_FIXED = (
    *((name, (False,)) for name in ("prenorm", "parallel_block", "causal", "use_rms_norm")),
    *((name, (False,)) for name in ("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias")),
    ("scale_attn_weights", (True,)),
    ("scale_attn_by_inverse_layer_idx", (False,)),
    ("rotary_emb_fraction", (1.0, 1)),
    ("rotary_emb_interleaved", (False,)),
    ("rotary_emb_scale_base", (None,)),
)
_OLDER_IGNORED = (
    "auto_map dense_seq_output fused_bias_fc fused_dropout_add_ln parallel_block_tied_norm "
    "reorder_and_upcast_attn summary_activation summary_first_dropout summary_proj_to_labels "
    "summary_type summary_use_proj use_flash_attn use_xentropy resid_pdrop"
)


def _read_older(config):
    """The keys of Nomic AI's own code, which are those of GPT-2."""
    for name, allowed in _OLDER_FIXED:
        config.must_be(name, *allowed)
    hidden_dim = config.integer("n_embd", high=MAX_SIZE)
    num_heads = config.integer("n_head", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads, "`n_head`, `n_embd`")
    tokens = config.integer("vocab_size", high=MAX_SIZE)
    multiple = config.integer("pad_vocab_size_multiple", high=MAX_SIZE, default=1)
    # Up to the trained length, its scaling of the frequencies changes nothing.
    scaling = config.optional("rotary_scaling_factor", config.number, 1e-3, 1e6)
    trained = config.integer("max_trained_positions", high=MAX_SIZE, default=2048)
    longest = config.integer("n_positions", high=MAX_SIZE)
    return {
        **_FIXED,
        "vocabulary_size": -(-tokens // multiple) * multiple,
        "num_layers": config.integer("n_layer", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("n_inner", high=MAX_SIZE),
        "dropout": config.number("embd_pdrop", 0.0, 0.999, default=0.0),
        "attention_dropout": config.number("attn_pdrop", 0.0, 0.999, default=0.0),
        "activation": config.mapped("activation_function", {"swiglu": "silu", "geglu": "gelu"}),
        "epsilon": config.number("layer_norm_epsilon", 1e-30, 1.0, default=1e-12),
        "max_sequence_length": longest if scaling is None else min(longest, trained),
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE),
        "position_options": {
            "max_wavelength": config.number("rotary_emb_base", 1e-3, 1e12, default=10000.0)
        },
        "attention_options": _attention_options(None),
    }


def _weights(config):
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    options = config["attention_options"]
    all_heads = config["num_heads"] * options.get("key_dim", width // config["num_heads"])
    rows = bert_like.embeddings(config, width, 0, _EMBEDDINGS)
    for i in range(config["num_layers"]):
        ours, theirs = f"layer_{i}", f"encoder.layers.{i}"
        attention, ffn = f"{ours}_attention", f"{ours}_feed_forward"
        for j, name in enumerate(("query", "key", "value")):
            part = (j * all_heads, 3 * all_heads)
            tensor = f"{theirs}.attn.Wqkv"
            rows += dense(f"{attention}/{name}", tensor, width, all_heads, bias=False, part=part)
        rows += dense(
            f"{attention}/output", f"{theirs}.attn.out_proj", all_heads, width, bias=False
        )
        rows += norm(f"{attention}_add_norm/norm", f"{theirs}.norm1", width)
        rows += dense(f"{ffn}/gate", f"{theirs}.mlp.fc12", width, inner, bias=False)
        rows += dense(f"{ffn}/intermediate", f"{theirs}.mlp.fc11", width, inner, bias=False)
        rows += dense(f"{ffn}/output", f"{theirs}.mlp.fc2", inner, width, bias=False)
        rows += norm(f"{ffn}_add_norm/norm", f"{theirs}.norm2", width)
    return rows + dense("pooler", "pooler.dense", width, width) * (config["pooler"] is not None)


FAMILY = Family(
    model_type="nomic_bert",
    architecture="NomicBertModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="nomic_bert.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.dense.weight",
    heads={
        "NomicBertForSequenceClassification": heads.text_classifier(pooling="pooler"),
        "NomicBertForTokenClassification": heads.token_classifier(),
        "NomicBertForMaskedLM": heads.masked_lm(
            dense="cls.predictions.transform.dense",
            norm="cls.predictions.transform.layer_norm",
            decoder="cls.predictions.decoder",
            table="nomic_bert.embeddings.word_embeddings.weight",
            bias="cls.predictions.bias",
        ),
    },
    head_prefixes=("cls.predictions.", "classifier."),
    buffers=bert_like.BUFFERS,
    ignored_keys=IGNORED_KEYS | set(_OLDER_IGNORED.split()),
    presets={
        "nomic_bert_137m": Preset(
            {
                "vocab_size": 30528,
                "hidden_size": 768,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "intermediate_size": 3072,
                "max_position_embeddings": 8192,
            },
            136_731_648,
            "2402.01613",
            {
                "embed_text_v1": Published("nomic-ai/nomic-embed-text-v1", "Apache-2.0"),
                "embed_text_v1_5": Published("nomic-ai/nomic-embed-text-v1.5", "Apache-2.0"),
            },
            pooler=False,
        )
    },
)
