"""DeBERTa's heads: that of texts has keys of its own, that of masked tokens two names."""

import dataclasses

from keras_addnorm.zoo.config import ACTIVATIONS, key_of
from keras_addnorm.zoo.shared import heads

# Where `legacy` is false, and in the authors' own files, the head of masked tokens has these names.
# It computes the same, by the table of tokens always.
_HEAD, _LEGACY = "lm_predictions.lm_head", "cls.predictions"
RENAMES = {
    f"{_HEAD}.bias": f"{_LEGACY}.bias",
    **{
        f"{_HEAD}.{part}.{name}": f"{_LEGACY}.transform.{part}.{name}"
        for part in ("dense", "LayerNorm")
        for name in ("weight", "bias")
    },
}


def all_heads():
    """The heads by transformers' class."""
    return {
        "DebertaV2ForSequenceClassification": _text_classifier(),
        "DebertaV2ForTokenClassification": heads.token_classifier(dropout=heads.ENCODER_DROPOUT),
        "DebertaV2ForQuestionAnswering": heads.question_answering(),
        "DebertaV2ForMaskedLM": _masked_lm(),
    }


def _text_classifier():
    """The pooler's keys say what the hidden layer does."""
    plain = heads.text_classifier(dense="pooler.dense", dropout=("cls_dropout", None))

    def arguments(reader, config):
        found = plain.arguments(reader, config)
        reader.must_be("pooler_hidden_size", config["hidden_dim"])
        options = {
            **found["head_options"],
            "activation": reader.mapped("pooler_hidden_act", ACTIVATIONS, default="gelu"),
            "input_dropout": reader.number("pooler_dropout", 0.0, 0.999, default=0.0),
        }
        return {**found, "head_options": options}

    def config_keys(config, arguments):
        options = arguments["head_options"]
        return {
            **plain.config_keys(config, arguments),
            "pooler_hidden_size": options["hidden_dim"],
            "pooler_hidden_act": key_of(ACTIVATIONS, options["activation"]),
            "pooler_dropout": options["input_dropout"],
        }

    return dataclasses.replace(plain, arguments=arguments, config_keys=config_keys)


def _masked_lm():
    plain = heads.masked_lm(
        dense=f"{_LEGACY}.transform.dense",
        norm=f"{_LEGACY}.transform.LayerNorm",
        decoder=f"{_LEGACY}.decoder",
        table="deberta.embeddings.word_embeddings.weight",
        bias=f"{_LEGACY}.bias",
    )

    def arguments(reader, config):
        found = plain.arguments(reader, config)
        if not reader.flag("legacy", default=True) and not found["tie_weights"]:
            reader.problems.append(
                "config keys `legacy`, `tie_word_embeddings`: the new head is always tied, got "
                "both false"
            )
        return found

    def config_keys(config, arguments):
        return {**plain.config_keys(config, arguments), "legacy": True}

    return dataclasses.replace(plain, arguments=arguments, config_keys=config_keys)
