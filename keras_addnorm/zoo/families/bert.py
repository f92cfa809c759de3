"""BERT, and what has its architecture: MiniLM, BGE, E5, GTE, MxBai.

Source: Devlin et al., arXiv:1810.04805; names as in transformers' `BertModel`.
"""

from keras_addnorm.models.blocks import MAX_SIZE
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub
from keras_addnorm.zoo.shared import bert_like, heads, keras_hub_like
from keras_addnorm.zoo.shared.bert_like import BASE, LARGE
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


UNCASED, CASED = 30_522, 28_996


def _preset(*args, paper="1810.04805", **licenses):
    return bert_like.preset({}, *args, paper, **licenses)


def _miniature(layers, width, parameters):
    heads = width // 64
    name = f"google/bert_uncased_L-{layers}_H-{width}_A-{heads}"
    sizes = (layers, heads, width, 4 * width)
    return _preset(UNCASED, sizes, parameters, paper="1908.08962", apache={"google": name})


# Weights of the miniatures by layers, for the widths.
_WIDTHS = (128, 256, 512, 768)
_MINIATURES = {
    2: (4_385_920, 9_591_040, 22_458_880, 38_603_520),
    4: (4_782_464, 11_170_560, 28_763_648, 52_779_264),
    6: (5_179_008, 12_750_080, 35_068_416, 66_955_008),
    8: (5_575_552, 14_329_600, 41_373_184, 81_130_752),
    10: (5_972_096, 15_909_120, 47_677_952, 95_306_496),
    12: (6_368_640, 17_488_640, 53_982_720, 109_482_240),
}

_PRESETS = {
    "bert_base_uncased": _preset(
        *(UNCASED, BASE, 109_482_240),
        apache={"google": "google-bert/bert-base-uncased"},
        mit={
            "bge_v1_5": "BAAI/bge-base-en-v1.5",
            "e5_v2": "intfloat/e5-base-v2",
            "gte": "thenlper/gte-base",
        },
    ),
    "bert_base_cased": _preset(
        *(CASED, BASE, 108_310_272),
        apache={"google": "google-bert/bert-base-cased"},
        mit={"ner": "dslim/bert-base-NER"},
    ),
    "bert_large_uncased": _preset(
        *(UNCASED, LARGE, 335_141_888),
        apache={
            "google": "google-bert/bert-large-uncased",
            "google_whole_word": "google-bert/bert-large-uncased-whole-word-masking",
            "mxbai_v1": "mixedbread-ai/mxbai-embed-large-v1",
        },
        mit={
            "bge_v1_5": "BAAI/bge-large-en-v1.5",
            "e5_v2": "intfloat/e5-large-v2",
            "gte": "thenlper/gte-large",
        },
    ),
    "bert_large_cased": _preset(
        CASED, LARGE, 333_579_264, apache={"google": "google-bert/bert-large-cased"}
    ),
    "bert_base_multilingual_cased": _preset(
        *(119_547, BASE, 177_853_440),
        apache={"google": "google-bert/bert-base-multilingual-cased"},
    ),
    "bert_base_multilingual_uncased": _preset(
        *(105_879, BASE, 167_356_416),
        apache={"google": "google-bert/bert-base-multilingual-uncased"},
    ),
    **{
        f"bert_uncased_l{layers}_h{width}": _miniature(layers, width, parameters)
        for layers, row in _MINIATURES.items()
        for width, parameters in zip(_WIDTHS, row, strict=True)
    },
    "minilm_l6_h384": _preset(
        *(UNCASED, (6, 12, 384, 1536), 22_713_216),
        paper="2002.10957",
        apache={
            "all_v2": "sentence-transformers/all-MiniLM-L6-v2",
            "ms_marco_v2": "cross-encoder/ms-marco-MiniLM-L6-v2",
        },
        packages={"all_v2": "minilm"},
    ),
    "minilm_l12_h384": _preset(
        *(UNCASED, (12, 12, 384, 1536), 33_360_000),
        paper="2002.10957",
        apache={"all_v2": "sentence-transformers/all-MiniLM-L12-v2"},
        mit={
            "microsoft": "microsoft/MiniLM-L12-H384-uncased",
            "bge_v1_5": "BAAI/bge-small-en-v1.5",
            "e5_v2": "intfloat/e5-small-v2",
            "gte": "thenlper/gte-small",
        },
    ),
    "minilm_l12_h384_multilingual": _preset(
        *(250_037, (12, 12, 384, 1536), 117_653_760),
        paper="2002.10957",
        apache={"paraphrase_v2": "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"},
        mit={"e5": "intfloat/multilingual-e5-small"},
    ),
}


FAMILY = Family(
    model_type="bert",
    architecture="BertModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="bert.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.dense.weight",
    heads={
        "BertForSequenceClassification": heads.text_classifier(pooling="pooler"),
        "BertForTokenClassification": heads.token_classifier(),
        "BertForQuestionAnswering": heads.question_answering(),
        "BertForMaskedLM": heads.masked_lm(
            dense="cls.predictions.transform.dense",
            norm="cls.predictions.transform.LayerNorm",
            decoder="cls.predictions.decoder",
            table="bert.embeddings.word_embeddings.weight",
            bias="cls.predictions.bias",
        ),
    },
    head_prefixes=("cls.predictions.", "cls.seq_relationship.", "classifier.", "qa_outputs."),
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
    presets=_PRESETS,
)
