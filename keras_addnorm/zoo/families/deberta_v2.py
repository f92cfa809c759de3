"""DeBERTa-v2 and v3: disentangled attention, and a convolution in the large models of v2.

transformers makes the embeddings zero at padding, and so do we. Rows of padding differ all the
same: there a padded position attends to all others, here to those that are not padding.

Source: He et al., arXiv:2006.03654 and arXiv:2111.09543; names as in transformers'
`DebertaV2Model`.
"""

import dataclasses

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.config import ACTIVATIONS, IGNORED_KEYS, key_of
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import bert_like, deberta_heads, keras_hub_like
from keras_addnorm.zoo.weight import Weight, dense, norm, table

BLOCK = {
    **bert_like.BLOCK,
    **{
        name: f"encoder.layer.{{i}}.attention.self.{name}_proj"
        for name in ("query", "key", "value")
    },
}
# Our names of the projections of distances, and theirs, by the term that needs them.
PROJECTIONS = {"c2p": ("relative_key", "pos_key_proj"), "p2c": ("relative_query", "pos_query_proj")}
MAX_KERNEL_SIZE = 999


def _encoder_config(config):
    arguments = bert_like.read_config(config)
    width, length = arguments["hidden_dim"], arguments["max_sequence_length"]
    config.must_be("attention_head_size", width // arguments["num_heads"])
    embedding = {"zero_padding": True}
    narrow = config.integer("embedding_size", high=MAX_SIZE, default=width)
    if narrow != width:
        embedding |= {"token_embedding_dim": narrow, "project_first": True}
    absolute = config.flag("position_biased_input", default=True)
    position = _position(config, length)
    if absolute and position:
        embedding["position"] = "learned"
    convolution = _convolution(config, width)
    return {
        **arguments,
        "epsilon": config.number("layer_norm_eps", 1e-30, 1.0, default=1e-7),
        "position": "learned" if absolute else "none",
        **position,
        "num_segments": config.integer("type_vocab_size", low=0, high=MAX_SIZE, default=0),
        "embedding_options": embedding,
        "block_options": {"convolution": convolution} if convolution else {},
    }


def _position(config, length):
    """What disentangled attention adds to the arguments; nothing without it."""
    relative = config.flag("relative_attention", default=False)
    terms = config.subset("pos_att_type", tuple(PROJECTIONS), default=None)
    share = config.flag("share_att_key", default=False)
    buckets = config.integer("position_buckets", low=-1, high=MAX_SIZE, default=-1)
    distance = config.integer("max_relative_positions", low=-1, high=MAX_SIZE, default=-1)
    normed = config.subset("norm_rel_ebd", ("none", "layer_norm"), default="none")
    distance = distance if distance > 0 else length
    if relative != bool(terms):
        # The terms make scores smaller, also where there are no distances to compare.
        config.problems.append(
            "config keys `relative_attention`, `pos_att_type`: there must be terms if and only if "
            f"attention is relative, got {relative} and {terms}"
        )
    if not relative:
        if "layer_norm" in normed:
            config.problems.append("config key `norm_rel_ebd` needs `relative_attention`")
        return {}
    if buckets > 0 and not 1 < buckets < 2 * (distance - 1):
        config.problems.append(
            "config key `position_buckets` must be above 1, and its half below the largest "
            f"distance - 1, got {buckets} for distances up to {distance}"
        )
    return {
        "position": "disentangled",
        "position_options": {
            "bucket_size": buckets if buckets > 0 else None,
            "max_distance": distance,
            "norm": "layer_norm" if "layer_norm" in normed else "none",
        },
        "attention_options": {"disentangled": {"terms": terms, "share_projections": share}},
    }


def _convolution(config, width):
    size = config.integer("conv_kernel_size", low=0, high=MAX_KERNEL_SIZE, default=0)
    activation = config.mapped("conv_act", ACTIVATIONS, default="tanh")
    groups = config.integer("conv_groups", high=MAX_SIZE, default=1)
    if size and size % 2 == 0:
        config.problems.append(f"config key `conv_kernel_size` must be odd, got {size}")
    if size and width % groups:
        config.problems.append(
            f"config key `conv_groups` must divide `hidden_size`, got {groups} and {width}"
        )
    return {"kernel_size": size, "activation": activation, "groups": groups} if size else None


def _config_keys(config):
    embedding, convolution = config["embedding_options"], config["block_options"].get("convolution")
    keys = {
        **bert_like.config_keys(config),
        "type_vocab_size": config["num_segments"],
        "relative_attention": config["position"] == "disentangled",
        "position_biased_input": "learned" in (config["position"], embedding.get("position")),
    }
    if "token_embedding_dim" in embedding:
        keys["embedding_size"] = embedding["token_embedding_dim"]
    if config["position"] == "disentangled":
        options, attention = config["position_options"], config["attention_options"]["disentangled"]
        keys |= {
            "pos_att_type": attention["terms"],
            "share_att_key": attention["share_projections"],
            "position_buckets": options["bucket_size"] or -1,
            "max_relative_positions": options["max_distance"],
            "norm_rel_ebd": options["norm"],
        }
    if convolution:
        keys |= {
            "conv_kernel_size": convolution["kernel_size"],
            "conv_act": key_of(ACTIVATIONS, convolution["activation"]),
            "conv_groups": convolution["groups"],
        }
    return keys


def _weights(config):
    width = config["hidden_dim"]
    rows = _embeddings(config) + bert_like.blocks(config, BLOCK)
    if config["position"] == "disentangled":
        rows += _distances(config)
    convolution = config["block_options"].get("convolution")
    if convolution:
        ours, theirs = "layer_0_convolution/convolution", "encoder.conv.conv"
        shape = (width, width // convolution["groups"], convolution["kernel_size"])
        rows += [
            Weight(f"{ours}/kernel", f"{theirs}.weight", shape, axes=(2, 1, 0)),
            Weight(f"{ours}/bias", f"{theirs}.bias", (width,)),
            *norm("layer_0_convolution_add_norm/norm", "encoder.conv.LayerNorm", width),
        ]
    return rows


def _embeddings(config):
    options, width = config["embedding_options"], config["hidden_dim"]
    narrow = options.get("token_embedding_dim", width)
    absolute = "learned" in (config["position"], options.get("position"))
    positions = config["max_sequence_length"] if absolute else 0
    rows = bert_like.embeddings(config, narrow, positions, bert_like.BERT_EMBEDDINGS)
    if narrow == width:
        return rows
    # Only the norm is as wide as the encoder.
    rows = [row for row in rows if not row.variable.startswith("embeddings/norm/")]
    rows += dense("embeddings/projection", "embeddings.embed_proj", narrow, width, bias=False)
    return rows + norm("embeddings/norm", "embeddings.LayerNorm", width)


def _distances(config):
    options, attention = config["position_options"], config["attention_options"]["disentangled"]
    width, span = config["hidden_dim"], options["bucket_size"] or options["max_distance"]
    ours = "relative_embedding/relative_embeddings"
    rows = table(ours, "encoder.rel_embeddings.weight", 2 * span, width)
    if options["norm"] == "layer_norm":
        rows += norm("relative_embedding/norm", "encoder.LayerNorm", width)
    own = [] if attention["share_projections"] else attention["terms"]
    for i in range(config["num_layers"]):
        for name, tensor in (PROJECTIONS[term] for term in own):
            theirs = f"encoder.layer.{i}.attention.self.{tensor}"
            rows += dense(f"layer_{i}_attention/{name}", theirs, width, width)
    return rows


def _from_keras_hub(config):
    arguments = keras_hub_like.read_config(config, activation="gelu", epsilon=1e-7)
    length = arguments["max_sequence_length"]
    buckets = config.integer("bucket_size", low=2, high=MAX_SIZE)
    if buckets >= 2 * (length - 1):
        config.problems.append(
            "config key `bucket_size`: its half must be below `max_sequence_length` - 1, got "
            f"{buckets} and {length}"
        )
    options = {"bucket_size": buckets, "max_distance": length, "norm": "layer_norm"}
    disentangled = {"terms": list(PROJECTIONS), "share_projections": True}
    return {
        **arguments,
        "position": "disentangled",
        "position_options": options,
        "attention_options": {"disentangled": disentangled},
        "embedding_options": {"zero_padding": True},
    }


def _backbone_config(config):
    bucket_size = config["position_options"]["bucket_size"]
    return {**keras_hub_like.config_keys(config), "bucket_size": bucket_size}


def _keras_hub_weights(config):
    width, ours, theirs = config["hidden_dim"], "relative_embedding", "rel_embedding"
    shape = (2 * config["position_options"]["bucket_size"], width)
    blocks = keras_hub_like.blocks(config, "disentangled_attention_encoder_layer_{i}")
    return [
        *keras_hub_like.embeddings(config, width),
        Weight(f"{ours}/relative_embeddings", f"{theirs}/rel_embedding", shape),
        *keras_hub_like.layer_norm(f"{ours}/norm", f"{theirs}/rel_embeddings_layer_norm", width),
        *(_joined(row, width) for row in blocks),
    ]


def _joined(row, width):
    """The projection behind attention takes joined heads here, unlike Keras's."""
    if row.tensor.endswith("/attention_output/kernel"):
        return dataclasses.replace(row, shape=(width, width))
    return row


def _preset(sizes, parameters, paper="2111.09543", vocabulary=128_100, apache=None, **mit):
    keys = {
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
    }
    if paper == "2006.03654":
        keys |= {"conv_kernel_size": 3, "conv_act": "gelu"}
    return bert_like.preset(keys, vocabulary, sizes, parameters, paper, apache=apache, mit=mit)


def _v3(name, sizes, parameters):
    nli = {"nli": f"cross-encoder/nli-deberta-v3-{name}"}
    return _preset(sizes, parameters, apache=nli, microsoft=f"microsoft/deberta-v3-{name}")


def _v2(name, sizes, parameters):
    return _preset(sizes, parameters, "2006.03654", microsoft=f"microsoft/deberta-v2-{name}")


_PRESETS = {
    "deberta_v3_xsmall": _v3("xsmall", (12, 6, 384, 1536), 70_682_112),
    "deberta_v3_small": _v3("small", (6, 12, 768, 3072), 141_304_320),
    "deberta_v3_base": _v3("base", bert_like.BASE, 183_831_552),
    "deberta_v3_large": _v3("large", bert_like.LARGE, 434_012_160),
    "mdeberta_v3_base": _preset(
        *(bert_like.BASE, 278_218_752),
        vocabulary=251_000,
        microsoft="microsoft/mdeberta-v3-base",
        xnli="MoritzLaurer/mDeBERTa-v3-base-mnli-xnli",
    ),
    "deberta_v2_xlarge": _v2("xlarge", (24, 24, 1536, 6144), 884_593_152),
    "deberta_v2_xxlarge": _v2("xxlarge", (48, 24, 1536, 6144), 1_564_549_632),
}


FAMILY = Family(
    model_type="deberta-v2",
    architecture="DebertaV2Model",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="deberta.",
    anchor="embeddings.word_embeddings.weight",
    heads=deberta_heads.all_heads(),
    head_prefixes=(
        *("cls.", "lm_predictions.", "mask_predictions.", "pooler.", "classifier.", "qa_outputs."),
    ),
    # Old files have positions that no model reads: transformers ignores them too.
    buffers=frozenset({"embeddings.position_ids", "embeddings.position_embeddings.weight"}),
    ignored_keys=IGNORED_KEYS
    | {
        "cls_dropout",
        "legacy",
        "padding_idx",
        "pooler_dropout",
        "pooler_hidden_act",
        "pooler_hidden_size",
    },
    renames=deberta_heads.RENAMES,
    keras_hub=KerasHub(
        backbone="DebertaV3Backbone",
        encoder_config=_from_keras_hub,
        backbone_config=_backbone_config,
        weights=_keras_hub_weights,
    ),
    presets=_PRESETS,
)
