"""What DINOv2 with and without registers share: the keys of their configs, and their tensors."""

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.family import Preset
from keras_addnorm.zoo.shared import vit_like
from keras_addnorm.zoo.weight import Weight

MAX_RATIO = 1000
MAX_REGISTERS = 1000

# What only training uses, or transformers' class for feature maps.
IGNORED_KEYS = frozenset(
    "layerscale_value apply_layernorm reshape_hidden_states out_features out_indices "
    "stage_names".split()
)

BLOCK = {
    **vit_like.BLOCK,
    "attention_norm": "encoder.layer.{i}.norm1",
    "ffn_norm": "encoder.layer.{i}.norm2",
    "intermediate": "encoder.layer.{i}.mlp.fc1",
    "ffn_output": "encoder.layer.{i}.mlp.fc2",
}
GATED_BLOCK = {
    **BLOCK,
    "intermediate": "encoder.layer.{i}.mlp.weights_in",
    "ffn_output": "encoder.layer.{i}.mlp.weights_out",
}
GATED = {"gated": True, "fused": True}


def gated_dim(intermediate_dim):
    """Width of a SwiGLU with about the weights of two dense layers of width `intermediate_dim`."""
    return (int(intermediate_dim * 2 / 3) + 7) // 8 * 8


def preset(name, size, parameters, paper):
    """A published DINOv2; `name` is what its Hugging Face repositories begin with."""
    keys = {**vit_like.published_keys(size, 14, 518), "mlp_ratio": 4}
    keys["use_swiglu_ffn"] = size == "giant"
    repository = f"facebook/{name}-{size}"
    tags = {"lvd142m": repository, "in1k_linear": f"{repository}-imagenet1k-1-layer"}
    return Preset(keys, parameters, paper, vit_like.published(tags))


def read_config(config, patch_size):
    """DINOv2's keys as arguments of the encoder, without register tokens."""
    arguments = vit_like.read_config(config, patch_size, epsilon=1e-6)
    # Of other images transformers would resize the positions as if they were of a square.
    check_square(config, "image_size", arguments["image_shape"])
    inner = arguments["hidden_dim"] * config.integer("mlp_ratio", high=MAX_RATIO, default=4)
    gated = config.flag("use_swiglu_ffn", default=False)
    if gated:
        inner, arguments["activation"] = gated_dim(inner), "silu"
    if inner > MAX_SIZE:
        config.problems.append(f"config key `mlp_ratio` makes {inner} features, over {MAX_SIZE}")
    return {
        **arguments,
        "residual": "layer_scale",
        "intermediate_dim": inner,
        "feed_forward_options": GATED if gated else {},
        "drop_path": config.number("drop_path_rate", 0.0, 0.999, default=0.0),
    }


def check_square(config, key, shape):
    """Notes a problem where an image of this shape is no square."""
    if shape[0] != shape[1]:
        config.problems.append(f"config key `{key}` must be that of a square, got {shape[:2]}")


def config_keys(config):
    """The inverse of `read_config`."""
    return {
        **vit_like.config_keys(config),
        "mlp_ratio": _ratio(config),
        "use_swiglu_ffn": bool(config["feed_forward_options"]),
        "drop_path_rate": config["drop_path"],
    }


def _ratio(config):
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    gated = bool(config["feed_forward_options"])
    near = inner * (1.5 if gated else 1) / width
    for ratio in range(max(1, int(near) - 8), int(near) + 2):
        if (gated_dim(width * ratio) if gated else width * ratio) == inner:
            return ratio
    raise ValueError(f"`intermediate_dim` {inner} is no whole multiple of `hidden_dim` {width}")


def weights(config):
    """All rows."""
    width = config["hidden_dim"]
    rows = vit_like.embeddings(config)
    registers = (config.get("embedding_options") or {}).get("num_register_tokens")
    if registers:
        name, shape = "embeddings.register_tokens", (1, registers, width)
        rows.append(Weight("embeddings/register_tokens", name, shape))
    rows += vit_like.blocks(config, GATED_BLOCK if config["feed_forward_options"] else BLOCK)
    return rows + layer_scales(config, "encoder.layer.{i}.layer_scale{n}.lambda1")


def layer_scales(config, name):
    """Rows of LayerScale; `name` is that of scale `{n}`, 1 or 2, of block `{i}`."""
    return [
        Weight(
            f"layer_{i}_{part}_add_norm/branch_scale",
            name.format(i=i, n=n),
            (config["hidden_dim"],),
        )
        for i in range(config["num_layers"])
        for n, part in enumerate(("attention", "feed_forward"), 1)
    ]
