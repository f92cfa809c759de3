"""What KerasHub's text backbones share: their configs, and the paths of their variables."""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.shared.bert_like import FIXED
from keras_addnorm.zoo.weight import Weight

SIZES = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim")


def read_config(config, activation, epsilon, vocabulary="vocabulary_size"):
    """The arguments of a backbone as arguments of our encoder, without segments and pooler.

    Args:
        config: a `ConfigReader`.
        activation: the activation that KerasHub hard-codes for this backbone.
        epsilon: likewise.
        vocabulary: the backbone's name of the number of tokens.
    """
    hidden_dim = config.integer("hidden_dim", high=MAX_SIZE)
    num_heads = config.integer("num_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads, "`num_heads`, `hidden_dim`")
    dropout = config.number("dropout", 0.0, 0.999)
    return {
        **FIXED,
        "vocabulary_size": config.integer(vocabulary, high=MAX_SIZE),
        "num_layers": config.integer("num_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("intermediate_dim", high=MAX_SIZE),
        "dropout": dropout,
        "attention_dropout": dropout,
        "activation": activation,
        "epsilon": epsilon,
        "max_sequence_length": config.integer("max_sequence_length", high=MAX_SIZE),
    }


def config_keys(config, *more):
    """The inverse of `read_config`, with `more` arguments of the same names."""
    return {name: config[name] for name in (*SIZES, "dropout", "max_sequence_length", *more)}


def layer_norm(variable, theirs, size):
    """Rows of a layer norm."""
    return [Weight(f"{variable}/{w}", f"{theirs}/{w}", (size,)) for w in ("gamma", "beta")]


def dense(variable, theirs, inputs, outputs, kernel=None, bias=None, use_bias=True):
    """Rows of a dense layer; `kernel` and `bias` are shapes where Keras splits them into heads."""
    rows = [Weight(f"{variable}/kernel", f"{theirs}/kernel", kernel or (inputs, outputs))]
    return rows + [Weight(f"{variable}/bias", f"{theirs}/bias", bias or (outputs,))] * use_bias


def attention(variable, theirs, config, use_bias=True):
    """Rows of an attention that is Keras's `MultiHeadAttention`."""
    width, heads = config["hidden_dim"], config["num_heads"]
    size, rows = width // heads, []
    split = {"kernel": (width, heads, size), "bias": (heads, size), "use_bias": use_bias}
    for name in ("query", "key", "value"):
        rows += dense(f"{variable}/{name}", f"{theirs}/{name}", width, width, **split)
    joined = {"kernel": (heads, size, width), "use_bias": use_bias}
    output = f"{theirs}/attention_output"
    return rows + dense(f"{variable}/output", output, width, width, **joined)


def embeddings(config, width, tokens="token_embedding", positions="position_embedding"):
    """Rows of the embeddings; `tokens` and `positions` are the paths of KerasHub's layers."""
    ours = "embeddings/token_embedding/embeddings"
    rows = [Weight(ours, f"{tokens}/embeddings", (config["vocabulary_size"], width))]
    rows += layer_norm("embeddings/norm", "embeddings_layer_norm", width)
    if config["position"] == "learned":
        ours = "embeddings/position_encoding/position_embeddings"
        shape = (config["max_sequence_length"], width)
        skip = (config.get("embedding_options") or {}).get("position_offset", 0)
        rows.append(Weight(ours, f"{positions}/embeddings", shape, skip=skip))
    if config.get("num_segments"):
        ours, shape = "embeddings/segment_embedding/embeddings", (config["num_segments"], width)
        rows.append(Weight(ours, "segment_embedding/embeddings", shape))
    return rows


def blocks(config, name="transformer_layer_{i}"):
    """Rows of all blocks; `name` is that of KerasHub's layers."""
    return [
        row
        for i in range(config["num_layers"])
        for row in block(config, f"layer_{i}", name.format(i=i))
    ]


def block(config, ours, theirs):
    """Rows of one block that is KerasHub's `TransformerEncoder`."""
    width, inner, ffn = config["hidden_dim"], config["intermediate_dim"], f"{ours}_feed_forward"
    joint = f"{ours}_attention_add_norm/norm"
    return [
        *attention(f"{ours}_attention", f"{theirs}/self_attention_layer", config),
        *layer_norm(joint, f"{theirs}/self_attention_layer_norm", width),
        *dense(f"{ffn}/intermediate", f"{theirs}/feedforward_intermediate_dense", width, inner),
        *dense(f"{ffn}/output", f"{theirs}/feedforward_output_dense", inner, width),
        *layer_norm(f"{ffn}_add_norm/norm", f"{theirs}/feedforward_layer_norm", width),
    ]


def pooler(config):
    """Rows of the pooler."""
    return dense("pooler", "pooled_dense", config["hidden_dim"], config["hidden_dim"])
