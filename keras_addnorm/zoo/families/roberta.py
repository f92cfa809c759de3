"""RoBERTa: BERT's blocks, with positions that are numbered behind the id of the padding token.

Source: Liu et al., arXiv:1907.11692; names as in transformers' `RobertaModel`.
"""

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import bert_like, heads, keras_hub_like
from keras_addnorm.zoo.weight import Weight, dense

# KerasHub's table of positions begins with that of the first token: the id of padding is 1.
KERAS_HUB_OFFSET = 2


def _encoder_config(config):
    arguments = bert_like.read_config(config)
    rows = arguments["max_sequence_length"]
    # The first token of a right-padded sequence has the position behind the id of padding.
    offset = config.integer("pad_token_id", high=MAX_SIZE - 1, low=0, default=1) + 1
    return {
        **arguments,
        "max_sequence_length": bert_like.positions_behind(config, rows, offset),
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE, default=2),
        "embedding_options": {"position_offset": offset},
        "pooler": "tanh",
    }


def _offset(config):
    # An encoder without this option is none of this family; its config then says 1.
    return config["embedding_options"].get("position_offset", 1)


def _config_keys(config):
    offset = _offset(config)
    return {
        **bert_like.config_keys(config),
        "max_position_embeddings": config["max_sequence_length"] + offset,
        "pad_token_id": offset - 1,
        "type_vocab_size": config["num_segments"],
    }


def _weights(config):
    width, positions = config["hidden_dim"], config["max_sequence_length"] + _offset(config)
    rows = bert_like.embeddings(config, width, positions, bert_like.BERT_EMBEDDINGS)
    rows += bert_like.blocks(config)
    return rows + dense("pooler", "pooler.dense", width, width) * (config["pooler"] is not None)


def _from_keras_hub(config):
    return {
        **keras_hub_like.read_config(config, activation="gelu", epsilon=1e-5),
        "num_segments": 1,
        "embedding_options": {"position_offset": KERAS_HUB_OFFSET},
    }


def _keras_hub_weights(config):
    width, positions = config["hidden_dim"], "embeddings/position_embedding"
    names = {"tokens": "embeddings/token_embedding", "positions": positions}
    return [
        *keras_hub_like.embeddings({**config, "num_segments": 0}, width, **names),
        # The one segment of all tokens, which KerasHub has not, is part of all positions.
        Weight(
            "embeddings/segment_embedding/embeddings",
            f"{positions}/embeddings",
            (1, width),
            added=True,
        ),
        *keras_hub_like.blocks(config),
    ]


def preset(*args, positions=514, **licenses):
    """A published RoBERTa or XLM-RoBERTa; the arguments are those of `bert_like.preset`."""
    keys = {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
    return bert_like.preset({**keys, "max_position_embeddings": positions}, *args, **licenses)


_PRESETS = {
    "roberta_base": preset(
        *(50_265, bert_like.BASE, 124_645_632, "1907.11692"),
        mit={"facebook": "FacebookAI/roberta-base"},
    ),
    "roberta_large": preset(
        *(50_265, bert_like.LARGE, 355_359_744, "1907.11692"),
        apache={"all_v1": "sentence-transformers/all-roberta-large-v1"},
        mit={"facebook": "FacebookAI/roberta-large", "mnli": "FacebookAI/roberta-large-mnli"},
    ),
    "distilroberta_base": preset(
        *(50_265, (6, 12, 768, 3072), 82_118_400, "1910.01108"),
        apache={
            "huggingface": "distilbert/distilroberta-base",
            "all_v1": "sentence-transformers/all-distilroberta-v1",
        },
    ),
}


FAMILY = Family(
    model_type="roberta",
    architecture="RobertaModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="roberta.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.dense.weight",
    heads={
        "RobertaForSequenceClassification": heads.text_classifier(
            dense="classifier.dense", output="classifier.out_proj"
        ),
        "RobertaForTokenClassification": heads.token_classifier(),
        "RobertaForQuestionAnswering": heads.question_answering(),
        "RobertaForMaskedLM": heads.masked_lm(
            dense="lm_head.dense",
            norm="lm_head.layer_norm",
            decoder="lm_head.decoder",
            table="roberta.embeddings.word_embeddings.weight",
            bias="lm_head.bias",
            activation="gelu",
        ),
    },
    head_prefixes=("lm_head.", "classifier.", "qa_outputs."),
    buffers=bert_like.BUFFERS,
    ignored_keys=IGNORED_KEYS,
    keras_hub=KerasHub(
        backbone="RobertaBackbone",
        encoder_config=_from_keras_hub,
        backbone_config=keras_hub_like.config_keys,
        weights=_keras_hub_weights,
    ),
    presets=_PRESETS,
)
