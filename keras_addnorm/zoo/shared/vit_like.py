"""What ViT and its relatives share: the keys of their configs, and the names of their tensors.

Pre-norm blocks over patches with learned positions. A family says what its tensors are called, and
adds or takes away keys.
"""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.config import ACTIVATIONS, key_of
from keras_addnorm.zoo.family import Preset, Published
from keras_addnorm.zoo.weight import Weight, dense, norm, pre_norms

# What stands for hidden patches in pretraining, and is read by nothing else.
MASK_TOKEN = "embeddings.mask_token"

# ViT's names of the parts of block i.
BLOCK = {
    "attention_norm": "encoder.layer.{i}.layernorm_before",
    "query": "encoder.layer.{i}.attention.attention.query",
    "key": "encoder.layer.{i}.attention.attention.key",
    "value": "encoder.layer.{i}.attention.attention.value",
    "output": "encoder.layer.{i}.attention.output.dense",
    "ffn_norm": "encoder.layer.{i}.layernorm_after",
    "intermediate": "encoder.layer.{i}.intermediate.dense",
    "ffn_output": "encoder.layer.{i}.output.dense",
}


# Hidden size, layers and heads, by what they are called.
SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "giant": (1536, 40, 24),
}


def published_keys(size, patch_size, image_size):
    """The keys of a published config that ViT, DeiT and DINOv2 have."""
    width, layers, heads = SIZES[size]
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "patch_size": patch_size,
        "image_size": image_size,
    }


def vit_preset(size, patch_size, image_size, parameters, paper, tags):
    """A published ViT or DeiT; `tags` is a dict of Hugging Face repositories."""
    keys = published_keys(size, patch_size, image_size)
    keys["intermediate_size"] = 4 * keys["hidden_size"]
    return Preset(keys, parameters, paper, published(tags))


def published(repositories):
    """All checkpoints of these families have one licence."""
    return {tag: Published(name, "Apache-2.0") for tag, name in repositories.items()}


def read_config(config, patch_size=16, epsilon=1e-12):
    """ViT's keys as arguments of the encoder, without tokens, feed-forward width and pooler."""
    config.encoder_only()
    hidden_dim = config.integer("hidden_size", high=MAX_SIZE)
    num_heads = config.integer("num_attention_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads)
    image = config.sizes("image_size", 2, high=MAX_SIZE, default=224)
    patch = config.sizes("patch_size", 2, high=MAX_SIZE, default=patch_size)
    if image[0] % patch[0] or image[1] % patch[1]:
        config.problems.append(
            f"config keys `image_size`, `patch_size`: an image must be whole patches, got {image} "
            f"and {patch}"
        )
    channels = config.integer("num_channels", high=MAX_SIZE, default=3)
    bias = config.flag("qkv_bias", default=True)
    return {
        "residual": "pre_norm",
        "norm": "layer_norm",
        "image_shape": [*image, channels],
        "patch_size": one_or_pair(patch),
        "num_layers": config.integer("num_hidden_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "dropout": config.number("hidden_dropout_prob", 0.0, 0.999, default=0.0),
        "attention_dropout": config.number("attention_probs_dropout_prob", 0.0, 0.999, default=0.0),
        "activation": config.mapped("hidden_act", ACTIVATIONS, default="gelu"),
        "epsilon": config.number("layer_norm_eps", 1e-30, 1.0, default=epsilon),
        "attention_options": {} if bias else {"use_bias": ["output"]},
    }


def config_keys(config):
    """The inverse of `read_config`."""
    *image, channels = config["image_shape"]
    return {
        "image_size": one_or_pair(image),
        "patch_size": config["patch_size"],
        "num_channels": channels,
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "hidden_size": config["hidden_dim"],
        "hidden_dropout_prob": config["dropout"],
        "attention_probs_dropout_prob": config["attention_dropout"],
        "hidden_act": key_of(ACTIVATIONS, config["activation"]),
        "layer_norm_eps": config["epsilon"],
        "qkv_bias": not config["attention_options"],
    }


def one_or_pair(sizes):
    """One number for a list of two that are equal, else the list."""
    return sizes[0] if sizes[0] == sizes[1] else sizes


def patch_shape(config):
    """`(height, width)` of a patch."""
    size = config["patch_size"]
    return (size, size) if isinstance(size, int) else tuple(size)


def grid_shape(config):
    """`(rows, columns)` of the patches of an image."""
    patch = patch_shape(config)
    return (config["image_shape"][0] // patch[0], config["image_shape"][1] // patch[1])


def embeddings(config, tokens=("embeddings.cls_token",)):
    """Rows of the patch projection, the positions, and the class tokens called `tokens`."""
    width, (rows, columns) = config["hidden_dim"], grid_shape(config)
    projection, patch = "embeddings.patch_embeddings.projection", patch_shape(config)
    return [
        Weight(
            "embeddings/projection/kernel",
            f"{projection}.weight",
            (width, config["image_shape"][2], *patch),
            axes=(2, 3, 1, 0),
        ),
        Weight("embeddings/projection/bias", f"{projection}.bias", (width,)),
        Weight(
            "embeddings/position_embeddings",
            "embeddings.position_embeddings",
            (1, len(tokens) + rows * columns, width),
        ),
        *(
            Weight("embeddings/class_tokens", name, (1, 1, width), into=(i, i + 1))
            for i, name in enumerate(tokens)
        ),
    ]


def blocks(config, names=None):
    """Rows of all blocks and the final norm; `names` as `BLOCK`."""
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    bias = not config["attention_options"]
    # A fused gate is the first half of the kernel, here and there.
    wide = inner * (2 if config.get("feed_forward_options") else 1)
    pairs, last = pre_norms(config)
    rows = norm(last, "layernorm", width)
    for i, (attention_norm, ffn_norm) in enumerate(pairs):
        block = {k: v.format(i=i) for k, v in (names or BLOCK).items()}
        attention, ffn = f"layer_{i}_attention", f"layer_{i}_feed_forward"
        rows += norm(attention_norm, block["attention_norm"], width)
        for name in ("query", "key", "value"):
            rows += dense(f"{attention}/{name}", block[name], width, width, bias)
        rows += dense(f"{attention}/output", block["output"], width, width)
        rows += norm(ffn_norm, block["ffn_norm"], width)
        rows += dense(f"{ffn}/intermediate", block["intermediate"], width, wide)
        rows += dense(f"{ffn}/output", block["ffn_output"], inner, width)
    return rows


def read_vit(config, num_class_tokens=1):
    """All keys of ViT and DeiT."""
    arguments = read_config(config)
    config.must_be("pooler_output_size", None, arguments["hidden_dim"])
    return {
        **arguments,
        "intermediate_dim": config.integer("intermediate_size", high=MAX_SIZE),
        "pooler": config.mapped("pooler_act", ACTIVATIONS, default="tanh"),
        "embedding_options": {"num_class_tokens": num_class_tokens} if num_class_tokens > 1 else {},
    }


def vit_keys(config):
    """The inverse of `read_vit`."""
    keys = {**config_keys(config), "intermediate_size": config["intermediate_dim"]}
    if config["pooler"] is not None:
        keys["pooler_act"] = key_of(ACTIVATIONS, config["pooler"])
    return keys


def vit_weights(config, tokens=("embeddings.cls_token",)):
    """All rows of ViT and DeiT."""
    width = config["hidden_dim"]
    pooler = dense("pooler", "pooler.dense", width, width)
    return embeddings(config, tokens) + blocks(config) + pooler * (config["pooler"] is not None)
