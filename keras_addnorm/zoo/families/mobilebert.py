"""MobileBERT: narrow blocks with four feed-forward networks each, between bottlenecks.

Source: Sun et al., arXiv:2004.02984; names as in transformers' `MobileBertModel`.
"""

import dataclasses

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, Preset, Published
from keras_addnorm.zoo.shared import bert_like, heads
from keras_addnorm.zoo.weight import dense, norm

_NORMS = {"no_norm": "affine", "layer_norm": "layer_norm"}
# Two of its layer norms have torch's epsilon, whatever the config says.
_TORCH_EPSILON = 1e-5


def _encoder_config(config):
    arguments = bert_like.read_config(config)
    hidden_dim = arguments["hidden_dim"]
    norm_kind = config.mapped("normalization_type", _NORMS, default="no_norm")
    if norm_kind == "layer_norm" and arguments["epsilon"] != _TORCH_EPSILON:
        config.problems.append(
            "config key `layer_norm_eps`: with `normalization_type` 'layer_norm', transformers has "
            f"{_TORCH_EPSILON} in some norms, so it is supported only as that, got "
            f"{arguments['epsilon']}"
        )
    tokens = config.integer("embedding_size", high=MAX_SIZE, default=128)
    trigrams = config.flag("trigram_input", default=True)
    projected = trigrams or tokens != hidden_dim
    return {
        **arguments,
        "norm": norm_kind,
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE, default=2),
        "embedding_options": {
            "token_embedding_dim": tokens,
            "projection_window": 3 if trigrams else 1,
        }
        if projected
        else {},
        "block_options": _block_options(config, hidden_dim, arguments["num_heads"]),
        "pooler": "tanh" if config.flag("classifier_activation", default=True) else None,
    }


def _block_options(config, hidden_dim, num_heads):
    count = config.integer("num_feedforward_networks", high=100, default=4)
    options = {"num_feed_forwards": count} if count > 1 else {}
    narrow = config.integer("intra_bottleneck_size", high=MAX_SIZE, default=128)
    everything = config.flag("use_bottleneck_attention", default=False)
    shared = config.flag("key_query_shared_bottleneck", default=True)
    has_bottleneck = config.flag("use_bottleneck", default=True)
    config.must_be("true_hidden_size", narrow if has_bottleneck else hidden_dim)
    if not has_bottleneck:
        return options
    config.heads_divide(narrow, num_heads, "`num_attention_heads`, `intra_bottleneck_size`")
    if not everything and not shared and narrow != hidden_dim:
        config.problems.append(
            "config key `key_query_shared_bottleneck`: false needs `use_bottleneck_attention`, or "
            f"`intra_bottleneck_size` equal to `hidden_size`, got {narrow} and {hidden_dim}"
        )
    options["bottleneck_dim"] = narrow
    if everything or not shared:
        options["attention_bottleneck"] = "all" if everything else "none"
    return options


def _config_keys(config):
    blocks, embeddings = config["block_options"], config["embedding_options"]
    if not embeddings:
        raise ValueError("without trigrams, and of one width, it has a weight that nothing uses")
    kind = blocks.get("attention_bottleneck", "query_key")
    narrow = blocks.get("bottleneck_dim")
    keys = {
        **bert_like.config_keys(config),
        "normalization_type": {ours: theirs for theirs, ours in _NORMS.items()}[config["norm"]],
        "type_vocab_size": config["num_segments"],
        "embedding_size": embeddings["token_embedding_dim"],
        "trigram_input": embeddings.get("projection_window") == 3,
        "num_feedforward_networks": blocks.get("num_feed_forwards", 1),
        "use_bottleneck": narrow is not None,
        "use_bottleneck_attention": kind == "all",
        "key_query_shared_bottleneck": kind == "query_key",
        "classifier_activation": config["pooler"] is not None,
    }
    if narrow is not None:
        keys["intra_bottleneck_size"] = narrow
    return keys


def _weights(config):
    width, options = config["hidden_dim"], config["embedding_options"]
    blocks = config["block_options"]
    tokens = options.get("token_embedding_dim", width)
    rows = bert_like.embeddings(
        config,
        width,
        config["max_sequence_length"],
        bert_like.BERT_EMBEDDINGS,
        token_width=tokens,
    )
    if options:
        inputs = tokens * options["projection_window"]
        rows += dense("embeddings/projection", "embeddings.embedding_transformation", inputs, width)
    for i in range(config["num_layers"]):
        ours, theirs = f"layer_{i}", f"encoder.layer.{i}"
        rows += _block(config, blocks, ours, theirs)
    return rows + dense("pooler", "pooler.dense", width, width) * (config["pooler"] is not None)


def _block(config, options, ours, theirs):
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    narrow = options.get("bottleneck_dim", width)
    kind = options.get("attention_bottleneck", "query_key")
    rows = []
    if "bottleneck_dim" in options:
        rows += _bottlenecks(kind, ours, theirs, width, narrow)
    seen = narrow if kind == "all" else width  # by values
    attention, tensor = f"{ours}_attention", f"{theirs}.attention"
    rows += dense(f"{attention}/query", f"{tensor}.self.query", narrow, narrow)
    rows += dense(f"{attention}/key", f"{tensor}.self.key", narrow, narrow)
    rows += dense(f"{attention}/value", f"{tensor}.self.value", seen, narrow)
    rows += dense(f"{attention}/output", f"{tensor}.output.dense", narrow, narrow)
    rows += norm(f"{attention}_add_norm/norm", f"{tensor}.output.LayerNorm", narrow)
    count = options.get("num_feed_forwards", 1)
    for j in range(count):  # The last one bears the names that BERT's only one has.
        ffn = f"{ours}_feed_forward_{j}" if j else f"{ours}_feed_forward"
        tensor = theirs if j == count - 1 else f"{theirs}.ffn.{j}"
        rows += dense(f"{ffn}/intermediate", f"{tensor}.intermediate.dense", narrow, inner)
        rows += dense(f"{ffn}/output", f"{tensor}.output.dense", inner, narrow)
        rows += norm(f"{ffn}_add_norm/norm", f"{tensor}.output.LayerNorm", narrow)
    return rows


def _bottlenecks(kind, ours, theirs, width, narrow):
    tensor = f"{theirs}.bottleneck.input"
    rows = dense(f"{ours}_input_bottleneck/dense", f"{tensor}.dense", width, narrow)
    rows += norm(f"{ours}_input_bottleneck/norm", f"{tensor}.LayerNorm", narrow)
    if kind == "query_key":
        tensor = f"{theirs}.bottleneck.attention"
        rows += dense(f"{ours}_query_key_bottleneck/dense", f"{tensor}.dense", width, narrow)
        rows += norm(f"{ours}_query_key_bottleneck/norm", f"{tensor}.LayerNorm", narrow)
    tensor = f"{theirs}.output.bottleneck"
    rows += dense(f"{ours}_output_bottleneck/dense", f"{tensor}.dense", narrow, width)
    return rows + norm(f"{ours}_output_bottleneck_add_norm/norm", f"{tensor}.LayerNorm", width)


def _text_classifier():
    """BERT's head; without a pooler's dense layer the pooled output is the first position."""
    head = heads.text_classifier(pooling="pooler")

    def arguments(reader, config):
        pooling = "cls" if config["pooler"] is None else "pooler"
        return {**head.arguments(reader, config), "pooling": pooling}

    return dataclasses.replace(head, arguments=arguments)


FAMILY = Family(
    model_type="mobilebert",
    architecture="MobileBertModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="mobilebert.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.dense.weight",
    heads={
        "MobileBertForSequenceClassification": _text_classifier(),
        "MobileBertForTokenClassification": heads.token_classifier(),
        "MobileBertForQuestionAnswering": heads.question_answering(),
        "MobileBertForMaskedLM": heads.masked_lm(
            dense="cls.predictions.transform.dense",
            norm="cls.predictions.transform.LayerNorm",
            decoder="cls.predictions.decoder",
            table="mobilebert.embeddings.word_embeddings.weight",
            bias="cls.predictions.bias",
            rest="cls.predictions.dense.weight",
        ),
    },
    head_prefixes=("cls.predictions.", "cls.seq_relationship.", "classifier.", "qa_outputs."),
    renames=bert_like.RENAMES,
    buffers=bert_like.BUFFERS
    | frozenset(
        {
            # There, but not used, where all of attention's inputs pass the other bottleneck.
            *(
                f"encoder.layer.{{i}}.bottleneck.attention.{part}"
                for part in ("dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias")
            ),
            # Likewise where no token embeddings are projected.
            "embeddings.embedding_transformation.weight",
            "embeddings.embedding_transformation.bias",
        }
    ),
    ignored_keys=IGNORED_KEYS,
    presets={
        "mobilebert": Preset(
            {
                "vocab_size": 30522,
                "hidden_size": 512,
                "num_hidden_layers": 24,
                "num_attention_heads": 4,
                "intermediate_size": 512,
                "hidden_act": "relu",
                "hidden_dropout_prob": 0.0,
                "max_position_embeddings": 512,
            },
            24_844_544,
            "2004.02984",
            {"uncased": Published("google/mobilebert-uncased", "Apache-2.0")},
        )
    },
)
