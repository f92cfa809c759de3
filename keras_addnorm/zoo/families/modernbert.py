"""ModernBERT: pre-norm, rotary positions, GeGLU, every third layer attends to all tokens.

Source: Warner et al., arXiv:2412.13663; names as in transformers' `ModernBertModel`.
"""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.config import ACTIVATIONS, IGNORED_KEYS, key_of
from keras_addnorm.zoo.family import Family, Preset, Published
from keras_addnorm.zoo.shared.modernbert_heads import all_heads
from keras_addnorm.zoo.shared.rope import read_rotation, rotation_keys
from keras_addnorm.zoo.weight import dense, norm, pre_norms, table

GLOBAL, LOCAL = "full_attention", "sliding_attention"
_MAX_WAVELENGTH = {GLOBAL: 160000.0, LOCAL: 10000.0}
_OLDER_WAVELENGTH = {GLOBAL: "global_rope_theta", LOCAL: "local_rope_theta"}
_NORMS = {False: "layer_norm_no_bias", True: "layer_norm"}


def _encoder_config(config):
    hidden_dim = config.integer("hidden_size", high=MAX_SIZE)
    num_heads = config.integer("num_attention_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads)
    num_layers = config.integer("num_hidden_layers", high=MAX_LAYERS)
    rotations = _rotations(config)
    bias = _bias(config, "attention_bias")
    window = config.integer("local_attention", high=MAX_SIZE, default=128) // 2 + 1
    kinds = {
        GLOBAL: bias,
        LOCAL: {**bias, "sliding_window": window, "rotary": rotations[LOCAL]},
    }
    mlp_dropout = config.number("mlp_dropout", 0.0, 0.999, default=0.0)
    embedding_dropout = config.number("embedding_dropout", 0.0, 0.999, default=0.0)
    return {
        "residual": "pre_norm",
        "embedding_norm": True,
        "block_options": {"first_norm": False},
        "position": "rotary",
        "vocabulary_size": config.integer("vocab_size", high=MAX_SIZE),
        "num_layers": num_layers,
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("intermediate_size", high=MAX_SIZE),
        # Of the dropout behind attention's output there is none here: at inference it is off.
        "dropout": 0.0,
        "attention_dropout": config.number("attention_dropout", 0.0, 0.999, default=0.0),
        "activation": config.mapped("hidden_activation", ACTIVATIONS, default="gelu"),
        "norm": _NORMS[config.flag("norm_bias", default=False)],
        "epsilon": config.number("norm_eps", 1e-30, 1.0, default=1e-5),
        "max_sequence_length": config.integer("max_position_embeddings", high=MAX_SIZE),
        "position_options": rotations[GLOBAL],
        "attention_options": _shortest([kinds[kind] for kind in _kinds(config, num_layers)]),
        "feed_forward_options": {
            "gated": True,
            "fused": True,
            **_bias(config, "mlp_bias"),
            **({"dropout": mlp_dropout} if mlp_dropout else {}),
        },
        "embedding_options": {"dropout": embedding_dropout} if embedding_dropout else {},
    }


def _bias(config, name):
    """The option of a sublayer whose biases the key `name` tells."""
    return {} if config.flag(name, default=False) else {"use_bias": False}


def _rotations(config):
    """The rotation of each kind of attention, from keys of today or of 2024."""
    parameters = config.mapping("rope_parameters") or {}
    unknown = sorted(set(parameters) - set(_MAX_WAVELENGTH))
    if unknown:
        config.problems.append(f"config key `rope_parameters`: {unknown} are no kinds of attention")
    rotations = {}
    for kind, older in _OLDER_WAVELENGTH.items():
        theta = config.number(older, 1e-3, 1e12, default=_MAX_WAVELENGTH[kind])
        name = f"rope_parameters.{kind}"
        rotations[kind] = read_rotation(config, name, parameters.get(kind), theta)
    if "scaling_factor" in rotations[GLOBAL]:  # Without a word it would be that of both.
        rotations[LOCAL] = {"scaling_factor": 1.0, **rotations[LOCAL]}
    return rotations


def _kinds(config, num_layers):
    """The kind of attention of each layer."""
    period = config.integer("global_attn_every_n_layers", high=MAX_SIZE, default=3)
    kinds = config.names("layer_types", num_layers, tuple(_MAX_WAVELENGTH))
    return kinds or [LOCAL if i % period else GLOBAL for i in range(num_layers)]


def _shortest(options):
    """The shortest list that, begun again when it ends, says the same; its item if it has one."""
    for length in range(1, len(options) + 1):
        if all(item == options[i % length] for i, item in enumerate(options)):
            return options[0] if length == 1 else options[:length]


def _config_keys(config):
    options = config["attention_options"]
    options = options if isinstance(options, list) else [options]
    every = [options[i % len(options)] for i in range(config["num_layers"])]
    local = next((item for item in every if "sliding_window" in item), {})
    rotations = {GLOBAL: config["position_options"], LOCAL: local.get("rotary", {})}
    # transformers' default, which must be a token.
    padding = {} if config["vocabulary_size"] > 50283 else {"pad_token_id": None}
    return {
        **padding,
        "vocab_size": config["vocabulary_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "hidden_size": config["hidden_dim"],
        "intermediate_size": config["intermediate_dim"],
        "attention_dropout": config["attention_dropout"],
        "embedding_dropout": config["embedding_options"].get("dropout", 0.0),
        "mlp_dropout": config["feed_forward_options"].get("dropout", 0.0),
        "hidden_activation": key_of(ACTIVATIONS, config["activation"]),
        "norm_bias": key_of(_NORMS, config["norm"]),
        "norm_eps": config["epsilon"],
        "max_position_embeddings": config["max_sequence_length"],
        "attention_bias": every[0].get("use_bias", True),
        "mlp_bias": config["feed_forward_options"].get("use_bias", True),
        "layer_types": [LOCAL if "sliding_window" in item else GLOBAL for item in every],
        "local_attention": max(2 * local.get("sliding_window", 65) - 2, 1),
        "rope_parameters": {kind: rotation_keys(item) for kind, item in rotations.items()},
    }


def _weights(config):
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    options = config["attention_options"]
    use_bias = (options[0] if isinstance(options, list) else options).get("use_bias", True)
    ffn_bias = config["feed_forward_options"].get("use_bias", True)
    norm_bias = config["norm"] == "layer_norm"
    name, tokens = "embeddings/token_embedding/embeddings", config["vocabulary_size"]
    rows = table(name, "embeddings.tok_embeddings.weight", tokens, width)
    rows += norm("embeddings/norm", "embeddings.norm", width, norm_bias)
    pairs, last = pre_norms(config)
    rows += norm(last, "final_norm", width, norm_bias)
    for i, (attention_norm, ffn_norm) in enumerate(pairs):
        attention, ffn, theirs = f"layer_{i}_attention", f"layer_{i}_feed_forward", f"layers.{i}"
        if i:
            rows += norm(attention_norm, f"{theirs}.attn_norm", width, norm_bias)
        for j, name in enumerate(("query", "key", "value")):
            part = (j * width, 3 * width)
            rows += dense(
                f"{attention}/{name}", f"{theirs}.attn.Wqkv", width, width, use_bias, part=part
            )
        rows += dense(f"{attention}/output", f"{theirs}.attn.Wo", width, width, use_bias)
        rows += norm(ffn_norm, f"{theirs}.mlp_norm", width, norm_bias)
        rows += dense(f"{ffn}/intermediate", f"{theirs}.mlp.Wi", width, 2 * inner, ffn_bias)
        rows += dense(f"{ffn}/output", f"{theirs}.mlp.Wo", inner, width, ffn_bias)
    return rows


def _preset(layers, width, heads, inner, parameters, repository):
    config = {
        "vocab_size": 50368,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": 8192,
    }
    tags = {"answerdotai": Published(f"answerdotai/{repository}", "Apache-2.0")}
    return Preset(config, parameters, "2412.13663", tags)


FAMILY = Family(
    model_type="modernbert",
    architecture="ModernBertModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="model.",
    anchor="embeddings.tok_embeddings.weight",
    heads=all_heads(),
    head_prefixes=("head.", "decoder.", "classifier."),
    ignored_keys=IGNORED_KEYS
    | set(
        "initializer_cutoff_factor deterministic_flash_attn reference_compile "
        "repad_logits_with_grad sparse_prediction sparse_pred_ignore_index "
        # Of the heads.
        "decoder_bias classifier_pooling classifier_bias classifier_activation "
        # Older files say it again with a name that nothing reads.
        "layer_norm_eps position_embedding_type".split()
    ),
    presets={
        "modernbert_base": _preset(22, 768, 12, 1152, 149_014_272, "ModernBERT-base"),
        "modernbert_large": _preset(28, 1024, 16, 2624, 394_781_696, "ModernBERT-large"),
    },
)
