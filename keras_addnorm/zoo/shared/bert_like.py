"""What BERT and its relatives share: the keys of their configs, and the names of their blocks.

Post-norm blocks with learned positions. A family says what its tensors are called, and adds or
takes away keys.
"""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.config import ACTIVATIONS, key_of
from keras_addnorm.zoo.family import Preset, Published
from keras_addnorm.zoo.weight import dense, norm, table

# Arguments of the encoder that are the same in all of them.
FIXED = {
    "residual": "post_norm",
    "norm": "layer_norm",
    "position": "learned",
    "embedding_norm": True,
}

# BERT's names of the parts of block i.
BLOCK = {
    "query": "encoder.layer.{i}.attention.self.query",
    "key": "encoder.layer.{i}.attention.self.key",
    "value": "encoder.layer.{i}.attention.self.value",
    "output": "encoder.layer.{i}.attention.output.dense",
    "attention_norm": "encoder.layer.{i}.attention.output.LayerNorm",
    "intermediate": "encoder.layer.{i}.intermediate.dense",
    "ffn_output": "encoder.layer.{i}.output.dense",
    "ffn_norm": "encoder.layer.{i}.output.LayerNorm",
}

# Layers, heads, features and feed-forward features of the published sizes.
BASE = (12, 12, 768, 3072)
LARGE = (24, 16, 1024, 4096)


def read_config(config, dropout=0.1, activation="gelu"):
    """BERT's keys as arguments of the encoder, without segments and pooler.

    Args:
        config: a `ConfigReader`.
        dropout: transformers' value of both rates where there is no key.
        activation: transformers' name of the activation where there is no key.
    """
    config.encoder_only()
    config.must_be("position_embedding_type", "absolute")
    hidden_dim = config.integer("hidden_size", high=MAX_SIZE)
    num_heads = config.integer("num_attention_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads)
    rate = {"low": 0.0, "high": 0.999, "default": dropout}
    return {
        **FIXED,
        "vocabulary_size": config.integer("vocab_size", high=MAX_SIZE),
        "num_layers": config.integer("num_hidden_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("intermediate_size", high=MAX_SIZE),
        "dropout": config.number("hidden_dropout_prob", **rate),
        "attention_dropout": config.number("attention_probs_dropout_prob", **rate),
        "activation": config.mapped("hidden_act", ACTIVATIONS, default=activation),
        "epsilon": config.number("layer_norm_eps", 1e-30, 1.0, default=1e-12),
        "max_sequence_length": config.integer("max_position_embeddings", high=MAX_SIZE),
    }


def preset(keys, vocabulary, sizes, parameters, paper, apache=None, mit=None, packages=None):
    """A published architecture.

    Args:
        keys: dict of the keys of its config beside the following.
        vocabulary: number of tokens.
        sizes: layers, heads, features, feed-forward features.
        parameters, paper: as in `Preset`.
        apache, mit: dicts of Hugging Face repositories by tag, one for each licence.
        packages: dict of keys of `sources.PACKAGES` by tag.
    """
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    keys = {
        "vocab_size": vocabulary,
        **dict(zip(names, sizes, strict=True)),
        "max_position_embeddings": 512,
        **keys,
    }
    tags = {
        tag: Published(name, license, (packages or {}).get(tag))
        for license, repositories in (("Apache-2.0", apache), ("MIT", mit))
        for tag, name in (repositories or {}).items()
    }
    return Preset(keys, parameters, paper, tags)


def config_keys(config):
    """The inverse of `read_config`."""
    return {
        "vocab_size": config["vocabulary_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "hidden_size": config["hidden_dim"],
        "intermediate_size": config["intermediate_dim"],
        "hidden_dropout_prob": config["dropout"],
        "attention_probs_dropout_prob": config["attention_dropout"],
        "hidden_act": key_of(ACTIVATIONS, config["activation"]),
        "layer_norm_eps": config["epsilon"],
        "max_position_embeddings": config["max_sequence_length"],
    }


def token_width(config):
    """Features of the tables of the embeddings."""
    options = config.get("embedding_options") or {}
    return options.get("token_embedding_dim", config["hidden_dim"])


def positions_behind(config, rows, offset):
    """The longest sequence where a table of `rows` positions is used from row `offset` on."""
    if rows > offset:
        return rows - offset
    config.problems.append(
        f"config key `max_position_embeddings` must be above {offset}, the position of the first "
        f"token, got {rows}"
    )
    return 1


def embeddings(config, width, positions, names, token_width=None):
    """Rows of the embeddings.

    Args:
        config: the encoder's arguments.
        width: features of the tables.
        positions: rows of the table of positions, 0 for none.
        names: names of the tensors, in the order tokens, positions, segments, norm.
        token_width: features of the table of tokens, where it differs from the others.
    """
    tokens, position, segment, scale = names
    rows = table(
        "embeddings/token_embedding/embeddings",
        tokens,
        config["vocabulary_size"],
        token_width or width,
    ) + norm("embeddings/norm", scale, width)
    if positions:
        name = "embeddings/position_encoding/position_embeddings"
        rows += table(name, position, positions, width)
    if config.get("num_segments"):
        name = "embeddings/segment_embedding/embeddings"
        rows += table(name, segment, config["num_segments"], width)
    return rows


BERT_EMBEDDINGS = (
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
    "embeddings.LayerNorm",
)


# Tensors that are no weights, in older files.
BUFFERS = frozenset({"embeddings.position_ids", "embeddings.token_type_ids"})

# What the parts of norms are called in files that were made from TensorFlow's.
RENAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def blocks(config, names=None):
    """Rows of all blocks; `names` as `BLOCK`."""
    return [
        row
        for i in range(config["num_layers"])
        for row in block(
            config, f"layer_{i}", {k: v.format(i=i) for k, v in (names or BLOCK).items()}
        )
    ]


def block(config, ours, names):
    """Rows of one block."""
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    attention, ffn = f"{ours}_attention", f"{ours}_feed_forward"
    return [
        *dense(f"{attention}/query", names["query"], width, width),
        *dense(f"{attention}/key", names["key"], width, width),
        *dense(f"{attention}/value", names["value"], width, width),
        *dense(f"{attention}/output", names["output"], width, width),
        *norm(f"{attention}_add_norm/norm", names["attention_norm"], width),
        *dense(f"{ffn}/intermediate", names["intermediate"], width, inner),
        *dense(f"{ffn}/output", names["ffn_output"], inner, width),
        *norm(f"{ffn}_add_norm/norm", names["ffn_norm"], width),
    ]
