"""ELECTRA, generators and discriminators: BERT with embeddings that may be narrower, no pooler.

Source: Clark et al., arXiv:2003.10555; names as in transformers' `ElectraModel`.
"""

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import bert_like, heads, keras_hub_like
from keras_addnorm.zoo.shared.bert_like import token_width
from keras_addnorm.zoo.weight import dense


def _encoder_config(config):
    arguments = bert_like.read_config(config)
    width = config.integer("embedding_size", high=MAX_SIZE, default=128)
    return {
        **arguments,
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE, default=2),
        "embedding_options": _projected(width, arguments["hidden_dim"]),
    }


def _projected(width, hidden_dim):
    return {} if width == hidden_dim else {"token_embedding_dim": width}


def _config_keys(config):
    return {
        **bert_like.config_keys(config),
        "type_vocab_size": config["num_segments"],
        "embedding_size": token_width(config),
    }


def _weights(config):
    hidden_dim, width = config["hidden_dim"], token_width(config)
    positions = config["max_sequence_length"]
    rows = bert_like.embeddings(config, width, positions, bert_like.BERT_EMBEDDINGS)
    if width != hidden_dim:
        rows += dense("embeddings/projection", "embeddings_project", width, hidden_dim)
    return rows + bert_like.blocks(config)


def _from_keras_hub(config):
    arguments = keras_hub_like.read_config(
        config, activation="gelu_tanh", epsilon=1e-12, vocabulary="vocab_size"
    )
    width = config.integer("embedding_dim", high=MAX_SIZE)
    return {
        **arguments,
        "num_segments": config.integer("num_segments", high=MAX_SIZE),
        "embedding_options": _projected(width, arguments["hidden_dim"]),
        "pooler": "tanh",
    }


def _backbone_config(config):
    keys = keras_hub_like.config_keys(config, "num_segments")
    vocabulary = keys.pop("vocabulary_size")
    return {**keys, "vocab_size": vocabulary, "embedding_dim": token_width(config)}


def _keras_hub_weights(config):
    hidden_dim, width = config["hidden_dim"], token_width(config)
    rows = keras_hub_like.embeddings(config, width)
    if width != hidden_dim:
        layer = "embeddings_projection"
        rows += keras_hub_like.dense("embeddings/projection", layer, width, hidden_dim)
    return rows + keras_hub_like.blocks(config) + keras_hub_like.pooler(config)


def _preset(width, sizes, parameters, **tags):
    keys = {"embedding_size": width}
    return bert_like.preset(keys, 30_522, sizes, parameters, "2003.10555", apache=tags)


_PRESETS = {
    "electra_small": _preset(
        *(128, (12, 4, 256, 1024), 13_483_008),
        discriminator="google/electra-small-discriminator",
        generator="google/electra-small-generator",
    ),
    "electra_base": _preset(
        768, bert_like.BASE, 108_891_648, discriminator="google/electra-base-discriminator"
    ),
    "electra_large": _preset(
        1024, bert_like.LARGE, 334_092_288, discriminator="google/electra-large-discriminator"
    ),
    "electra_base_generator": _preset(
        768, (12, 4, 256, 1024), 33_511_168, generator="google/electra-base-generator"
    ),
    "electra_large_generator": _preset(
        1024, (24, 4, 256, 1024), 50_999_552, generator="google/electra-large-generator"
    ),
}


FAMILY = Family(
    model_type="electra",
    architecture="ElectraModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="electra.",
    anchor="embeddings.word_embeddings.weight",
    heads={
        "ElectraForSequenceClassification": heads.text_classifier(
            dense="classifier.dense", output="classifier.out_proj", activation="gelu"
        ),
        "ElectraForTokenClassification": heads.token_classifier(),
        "ElectraForPreTraining": heads.replaced_tokens(
            dense="discriminator_predictions.dense",
            output="discriminator_predictions.dense_prediction",
        ),
        "ElectraForQuestionAnswering": heads.question_answering(),
        "ElectraForMaskedLM": heads.masked_lm(
            dense="generator_predictions.dense",
            norm="generator_predictions.LayerNorm",
            decoder="generator_lm_head",
            table="electra.embeddings.word_embeddings.weight",
            activation="gelu",
        ),
    },
    head_prefixes=(
        *("discriminator_predictions.", "generator_predictions.", "generator_lm_head."),
        *("classifier.", "qa_outputs.", "sequence_summary."),
    ),
    buffers=bert_like.BUFFERS,
    ignored_keys=IGNORED_KEYS
    | {"summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"},
    keras_hub=KerasHub(
        backbone="ElectraBackbone",
        encoder_config=_from_keras_hub,
        backbone_config=_backbone_config,
        weights=_keras_hub_weights,
    ),
    presets=_PRESETS,
)
