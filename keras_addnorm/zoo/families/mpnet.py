"""MPNet: BERT's blocks with relative positions beside RoBERTa's absolute ones, no segments.

Source: Song et al., arXiv:2004.09297; names as in transformers' `MPNetModel`.
"""

from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family
from keras_addnorm.zoo.shared import bert_like, heads
from keras_addnorm.zoo.weight import dense, table

# transformers has no working keys for these: the id of padding is 1 and there are 32 buckets.
OFFSET = 2
BUCKETS = 32

BLOCK = {
    **bert_like.BLOCK,
    "query": "encoder.layer.{i}.attention.attn.q",
    "key": "encoder.layer.{i}.attention.attn.k",
    "value": "encoder.layer.{i}.attention.attn.v",
    "output": "encoder.layer.{i}.attention.attn.o",
    "attention_norm": "encoder.layer.{i}.attention.LayerNorm",
}


def _encoder_config(config):
    config.must_be("relative_attention_num_buckets", BUCKETS)
    arguments = bert_like.read_config(config)
    length = bert_like.positions_behind(config, arguments["max_sequence_length"], OFFSET)
    return {
        **arguments,
        "max_sequence_length": length,
        "position": "relative",
        "embedding_options": {"position": "learned", "position_offset": OFFSET},
        "pooler": "tanh",
    }


def _config_keys(config):
    return {
        **bert_like.config_keys(config),
        "max_position_embeddings": config["max_sequence_length"] + OFFSET,
        "relative_attention_num_buckets": BUCKETS,
        "pad_token_id": OFFSET - 1,
    }


def _weights(config):
    width, positions = config["hidden_dim"], config["max_sequence_length"] + OFFSET
    rows = bert_like.embeddings(config, width, positions, bert_like.BERT_EMBEDDINGS)
    rows += table(
        "position_bias/relative_attention_bias",
        "encoder.relative_attention_bias.weight",
        BUCKETS,
        config["num_heads"],
    )
    rows += bert_like.blocks(config, BLOCK)
    return rows + dense("pooler", "pooler.dense", width, width) * (config["pooler"] is not None)


_PRESETS = {
    "mpnet_base": bert_like.preset(
        {"max_position_embeddings": 514, "layer_norm_eps": 1e-5},
        *(30_527, bert_like.BASE, 109_486_464, "2004.09297"),
        apache={
            "all_v2": "sentence-transformers/all-mpnet-base-v2",
            "paraphrase_v2": "sentence-transformers/paraphrase-mpnet-base-v2",
        },
    )
}


FAMILY = Family(
    model_type="mpnet",
    architecture="MPNetModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="mpnet.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.dense.weight",
    heads={
        "MPNetForSequenceClassification": heads.text_classifier(
            dense="classifier.dense", output="classifier.out_proj", dropout=heads.ENCODER_DROPOUT
        ),
        "MPNetForTokenClassification": heads.token_classifier(dropout=heads.ENCODER_DROPOUT),
        "MPNetForQuestionAnswering": heads.question_answering(),
        "MPNetForMaskedLM": heads.masked_lm(
            dense="lm_head.dense",
            norm="lm_head.layer_norm",
            decoder="lm_head.decoder",
            table="mpnet.embeddings.word_embeddings.weight",
            bias="lm_head.bias",
            activation="gelu",
        ),
    },
    head_prefixes=("lm_head.", "classifier.", "qa_outputs."),
    buffers=frozenset({"embeddings.position_ids"}),
    ignored_keys=IGNORED_KEYS,
    presets=_PRESETS,
)
