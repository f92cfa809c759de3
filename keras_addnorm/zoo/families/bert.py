"""BERT, and what has its architecture: MiniLM, BGE, E5, GTE, MxBai.

Source: Devlin et al., arXiv:1810.04805; names as in transformers' `BertModel`.
"""

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo import bert_like, keras_hub_like
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.weight import dense


def _encoder_config(config):
    return {
        **bert_like.read_config(config),
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE, default=2),
        "pooler": "tanh",
    }


def _config_keys(config):
    return {**bert_like.config_keys(config), "type_vocab_size": config["num_segments"]}


def _weights(config):
    width, positions = config["hidden_dim"], config["max_sequence_length"]
    rows = bert_like.embeddings(config, width, positions, bert_like.BERT_EMBEDDINGS)
    rows += bert_like.blocks(config)
    return rows + dense("pooler", "pooler.dense", width, width) * (config["pooler"] is not None)


def _from_keras_hub(config):
    return {
        **keras_hub_like.read_config(config, activation="gelu_tanh", epsilon=1e-12),
        "num_segments": config.integer("num_segments", high=MAX_SIZE),
        "pooler": "tanh",
    }


def _keras_hub_weights(config):
    return (
        keras_hub_like.embeddings(config, config["hidden_dim"])
        + keras_hub_like.blocks(config)
        + keras_hub_like.pooler(config)
    )


FAMILY = Family(
    model_type="bert",
    architecture="BertModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="bert.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.dense.weight",
    head_prefixes=("cls.", "classifier.", "qa_outputs."),
    buffers=bert_like.BUFFERS,
    ignored_keys=IGNORED_KEYS
    | {
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    },
    renames=bert_like.RENAMES,
    keras_hub=KerasHub(
        backbone="BertBackbone",
        encoder_config=_from_keras_hub,
        backbone_config=lambda config: keras_hub_like.config_keys(config, "num_segments"),
        weights=_keras_hub_weights,
    ),
)
