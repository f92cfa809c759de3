"""DistilBERT: BERT's blocks without segments and pooler, under names of its own.

Source: Sanh et al., arXiv:1910.01108; names as in transformers' `DistilBertModel`.
"""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.config import ACTIVATIONS, IGNORED_KEYS, key_of
from keras_addnorm.zoo.family import Family, KerasHub, Preset, Published
from keras_addnorm.zoo.shared import bert_like, heads, keras_hub_like

# transformers has no key for it.
EPSILON = 1e-12

BLOCK = {
    "query": "transformer.layer.{i}.attention.q_lin",
    "key": "transformer.layer.{i}.attention.k_lin",
    "value": "transformer.layer.{i}.attention.v_lin",
    "output": "transformer.layer.{i}.attention.out_lin",
    "attention_norm": "transformer.layer.{i}.sa_layer_norm",
    "intermediate": "transformer.layer.{i}.ffn.lin1",
    "ffn_output": "transformer.layer.{i}.ffn.lin2",
    "ffn_norm": "transformer.layer.{i}.output_layer_norm",
}


def _encoder_config(config):
    config.encoder_only()
    hidden_dim = config.integer("dim", high=MAX_SIZE)
    num_heads = config.integer("n_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads, "`n_heads`, `dim`")
    return {
        **bert_like.FIXED,
        "vocabulary_size": config.integer("vocab_size", high=MAX_SIZE),
        "num_layers": config.integer("n_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("hidden_dim", high=MAX_SIZE),
        "dropout": config.number("dropout", 0.0, 0.999, default=0.1),
        "attention_dropout": config.number("attention_dropout", 0.0, 0.999, default=0.1),
        "activation": config.mapped("activation", ACTIVATIONS, default="gelu"),
        "epsilon": EPSILON,
        "max_sequence_length": config.integer("max_position_embeddings", high=MAX_SIZE),
    }


def _config_keys(config):
    return {
        "vocab_size": config["vocabulary_size"],
        "n_layers": config["num_layers"],
        "n_heads": config["num_heads"],
        "dim": config["hidden_dim"],
        "hidden_dim": config["intermediate_dim"],
        "dropout": config["dropout"],
        "attention_dropout": config["attention_dropout"],
        "activation": key_of(ACTIVATIONS, config["activation"]),
        "max_position_embeddings": config["max_sequence_length"],
    }


def _weights(config):
    names, positions = bert_like.BERT_EMBEDDINGS, config["max_sequence_length"]
    rows = bert_like.embeddings(config, config["hidden_dim"], positions, names)
    return rows + bert_like.blocks(config, BLOCK)


def _keras_hub_weights(config):
    layer = "token_and_position_embedding"
    names = {"tokens": f"{layer}/token_embedding", "positions": f"{layer}/position_embedding"}
    rows = keras_hub_like.embeddings(config, config["hidden_dim"], **names)
    return rows + keras_hub_like.blocks(config)


def _preset(vocabulary, parameters, **repositories):
    keys = {"vocab_size": vocabulary, "n_layers": 6, "n_heads": 12, "dim": 768}
    keys |= {"hidden_dim": 3072, "max_position_embeddings": 512}
    tags = {tag: Published(name, "Apache-2.0") for tag, name in repositories.items()}
    return Preset(keys, parameters, "1910.01108", tags)


_PRESETS = {
    "distilbert_base_uncased": _preset(
        *(30_522, 66_362_880),
        huggingface="distilbert/distilbert-base-uncased",
        sst2="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        squad="distilbert/distilbert-base-uncased-distilled-squad",
    ),
    "distilbert_base_cased": _preset(
        *(28_996, 65_190_912),
        huggingface="distilbert/distilbert-base-cased",
        squad="distilbert/distilbert-base-cased-distilled-squad",
    ),
    "distilbert_base_multilingual_cased": _preset(
        119_547, 134_734_080, huggingface="distilbert/distilbert-base-multilingual-cased"
    ),
}


FAMILY = Family(
    model_type="distilbert",
    architecture="DistilBertModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="distilbert.",
    anchor="embeddings.word_embeddings.weight",
    heads={
        "DistilBertForSequenceClassification": heads.text_classifier(
            dense="pre_classifier",
            activation="relu",
            input_dropout=False,
            dropout=("seq_classif_dropout", 0.2),
        ),
        "DistilBertForTokenClassification": heads.token_classifier(dropout=heads.ENCODER_DROPOUT),
        "DistilBertForQuestionAnswering": heads.question_answering(dropout=("qa_dropout", 0.1)),
        "DistilBertForMaskedLM": heads.masked_lm(
            dense="vocab_transform",
            norm="vocab_layer_norm",
            decoder="vocab_projector",
            table="distilbert.embeddings.word_embeddings.weight",
        ),
    },
    head_prefixes=(
        *("pre_classifier.", "classifier.", "qa_outputs."),
        *("vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
    ),
    buffers=frozenset({"embeddings.position_ids"}),
    ignored_keys=IGNORED_KEYS
    | {
        "sinusoidal_pos_embds",  # How the table starts; it is in the checkpoint either way.
        "qa_dropout",
        "seq_classif_dropout",
        "tie_weights_",
    },
    keras_hub=KerasHub(
        backbone="DistilBertBackbone",
        encoder_config=lambda config: keras_hub_like.read_config(config, "gelu", EPSILON),
        backbone_config=keras_hub_like.config_keys,
        weights=_keras_hub_weights,
    ),
    presets=_PRESETS,
)
