"""What KerasHub's backbones of images share: their configs, and the paths of their variables."""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.shared import vit_like
from keras_addnorm.zoo.shared.keras_hub_like import attention, dense, layer_norm
from keras_addnorm.zoo.weight import Weight, pre_norms


def read_config(config, intermediate_dim="intermediate_dim"):
    """The arguments of ViT and DeiT as arguments of our encoder, without tokens.

    Args:
        config: a `ConfigReader`.
        intermediate_dim: what the backbone calls this argument.
    """
    bias = config.flag("use_mha_bias")
    return {
        **read_sizes(config),
        "patch_size": vit_like.one_or_pair(config.sizes("patch_size", 2, high=MAX_SIZE)),
        "intermediate_dim": config.integer(intermediate_dim, high=MAX_SIZE),
        "dropout": config.number("dropout_rate", 0.0, 0.999),
        "attention_dropout": config.number("attention_dropout", 0.0, 0.999),
        "epsilon": config.number("layer_norm_epsilon", 1e-30, 1.0),
        "attention_options": {} if bias else {"use_bias": False},
    }


def read_sizes(config):
    """The arguments that all backbones of images have."""
    config.must_be("data_format", "channels_last")
    hidden_dim = config.integer("hidden_dim", high=MAX_SIZE)
    num_heads = config.integer("num_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads, "`num_heads`, `hidden_dim`")
    return {
        "residual": "pre_norm",
        "norm": "layer_norm",
        "activation": "gelu",  # KerasHub has no other.
        "image_shape": config.sizes("image_shape", 3, high=MAX_SIZE),
        "num_layers": config.integer("num_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
    }


def backbone_config(config, intermediate_dim="intermediate_dim"):
    """The inverse of `read_config`."""
    return {
        **backbone_sizes(config),
        intermediate_dim: config["intermediate_dim"],
        "attention_dropout": config["attention_dropout"],
        "layer_norm_epsilon": config["epsilon"],
        "use_mha_bias": not config["attention_options"],
    }


def backbone_sizes(config):
    """The inverse of `read_sizes`, with patches and dropout."""
    return {
        "data_format": "channels_last",
        **{name: config[name] for name in ("image_shape", "num_layers", "num_heads", "hidden_dim")},
        "patch_size": config["patch_size"],
        "dropout_rate": config["dropout"],
    }


def embeddings(config, projection, positions, tokens, use_bias=True):
    """Rows of the patch projection, the positions, and the class tokens.

    Args:
        config: the encoder's arguments.
        projection: path of KerasHub's layer.
        positions: `(path, leading axes)` of the table of positions.
        tokens: paths of the class tokens.
        use_bias: whether the projection has a bias.
    """
    width, channels = config["hidden_dim"], config["image_shape"][2]
    (rows, columns), (path, leading) = vit_like.grid_shape(config), positions
    kernel = (*vit_like.patch_shape(config), channels, width)
    table = (*leading, len(tokens) + rows * columns, width)
    return [
        *dense("embeddings/projection", projection, channels, width, kernel, use_bias=use_bias),
        Weight("embeddings/position_embeddings", path, table),
        *(
            Weight("embeddings/class_tokens", name, (1, 1, width), into=(i, i + 1))
            for i, name in enumerate(tokens)
        ),
    ]


def blocks(config, names, wide=None):
    """Rows of all blocks and the final norm.

    Args:
        config: the encoder's arguments.
        names: dict of the paths of KerasHub's layers, with `{i}` from 0 or `{n}` from 1.
        wide: features of the intermediate layer. Default: `intermediate_dim`.
    """
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    mha_bias = not config["attention_options"]
    mlp_bias = config["feed_forward_options"].get("use_bias", True)
    pairs, last = pre_norms(config)
    rows = layer_norm(last, names["last_norm"], width)
    for i, (attention_norm, ffn_norm) in enumerate(pairs):
        theirs = {key: name.format(i=i, n=i + 1) for key, name in names.items()}
        ffn = f"layer_{i}_feed_forward"
        up, down = f"{ffn}/intermediate", f"{ffn}/output"
        rows += layer_norm(attention_norm, theirs["attention_norm"], width)
        rows += attention(f"layer_{i}_attention", theirs["attention"], config, mha_bias)
        rows += layer_norm(ffn_norm, theirs["ffn_norm"], width)
        rows += dense(up, theirs["intermediate"], width, wide or inner, use_bias=mlp_bias)
        rows += dense(down, theirs["ffn_output"], inner, width, use_bias=mlp_bias)
    return rows
