"""ALBERT: one block of BERT's for all layers, over narrow embeddings.

Source: Lan et al., arXiv:1909.11942; names as in transformers' `AlbertModel`.
"""

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import bert_like, heads, keras_hub_like
from keras_addnorm.zoo.shared.bert_like import token_width
from keras_addnorm.zoo.weight import dense

_LAYER = "encoder.albert_layer_groups.0.albert_layers.0"
BLOCK = {
    "query": f"{_LAYER}.attention.query",
    "key": f"{_LAYER}.attention.key",
    "value": f"{_LAYER}.attention.value",
    "output": f"{_LAYER}.attention.dense",
    "attention_norm": f"{_LAYER}.attention.LayerNorm",
    "intermediate": f"{_LAYER}.ffn",
    "ffn_output": f"{_LAYER}.ffn_output",
    "ffn_norm": f"{_LAYER}.full_layer_layer_norm",
}


def _encoder_config(config):
    config.must_be("num_hidden_groups", 1)
    config.must_be("inner_group_num", 1)
    width = config.integer("embedding_size", high=MAX_SIZE, default=128)
    return {
        **bert_like.read_config(config, dropout=0.0, activation="gelu_new"),
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE, default=2),
        "embedding_options": {"token_embedding_dim": width},
        "share_layers": True,
        "pooler": "tanh",
    }


def _config_keys(config):
    return {
        **bert_like.config_keys(config),
        "type_vocab_size": config["num_segments"],
        "embedding_size": token_width(config),
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    }


def _weights(config):
    hidden_dim, width = config["hidden_dim"], token_width(config)
    positions = config["max_sequence_length"]
    rows = bert_like.embeddings(config, width, positions, bert_like.BERT_EMBEDDINGS)
    projection = "encoder.embedding_hidden_mapping_in"
    rows += dense("embeddings/projection", projection, width, hidden_dim)
    rows += bert_like.block(config, "layer_0", BLOCK)
    return rows + dense("pooler", "pooler", hidden_dim, hidden_dim) * (config["pooler"] is not None)


def _from_keras_hub(config):
    config.must_be("num_groups", 1)
    config.must_be("num_inner_repetitions", 1)
    width = config.integer("embedding_dim", high=MAX_SIZE)
    return {
        **keras_hub_like.read_config(config, activation="gelu_tanh", epsilon=1e-12),
        "num_segments": config.integer("num_segments", high=MAX_SIZE),
        "embedding_options": {"token_embedding_dim": width},
        "share_layers": True,
        "pooler": "tanh",
    }


def _backbone_config(config):
    keys = keras_hub_like.config_keys(config, "num_segments")
    return {**keys, "embedding_dim": token_width(config)}


def _keras_hub_weights(config):
    width = token_width(config)
    return [
        *keras_hub_like.embeddings(config, width),
        *keras_hub_like.dense(
            "embeddings/projection", "embedding_projection", width, config["hidden_dim"]
        ),
        *keras_hub_like.block(config, "layer_0", "group_0_inner_layer_0"),
        *keras_hub_like.pooler(config),
    ]


def _preset(name, sizes, parameters):
    tags = {"v2": f"albert/albert-{name}-v2"}
    keys = {"embedding_size": 128}
    return bert_like.preset(keys, 30_000, sizes, parameters, "1909.11942", apache=tags)


_PRESETS = {
    "albert_base": _preset("base", bert_like.BASE, 11_683_584),
    "albert_large": _preset("large", bert_like.LARGE, 17_683_968),
    "albert_xlarge": _preset("xlarge", (24, 16, 2048, 8192), 58_724_864),
    "albert_xxlarge": _preset("xxlarge", (12, 64, 4096, 16384), 222_595_584),
}


FAMILY = Family(
    model_type="albert",
    architecture="AlbertModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="albert.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.weight",
    heads={
        "AlbertForSequenceClassification": heads.text_classifier(
            pooling="pooler", dropout=("classifier_dropout_prob", 0.1)
        ),
        "AlbertForTokenClassification": heads.token_classifier(
            dropout=("classifier_dropout_prob", 0.1)
        ),
        "AlbertForQuestionAnswering": heads.question_answering(),
        "AlbertForMaskedLM": heads.masked_lm(
            dense="predictions.dense",
            norm="predictions.LayerNorm",
            decoder="predictions.decoder",
            table="albert.embeddings.word_embeddings.weight",
            bias="predictions.bias",
        ),
    },
    head_prefixes=("predictions.", "sop_classifier.", "classifier.", "qa_outputs."),
    buffers=bert_like.BUFFERS,
    ignored_keys=IGNORED_KEYS
    | {
        "classifier_dropout_prob",
        # In published files, and read by no version of transformers.
        *("down_scale_factor", "gap_size", "layers_to_keep", "net_structure_type"),
        "num_memory_blocks",
    },
    keras_hub=KerasHub(
        backbone="AlbertBackbone",
        encoder_config=_from_keras_hub,
        backbone_config=_backbone_config,
        weights=_keras_hub_weights,
    ),
    presets=_PRESETS,
)
