"""ModernBERT's heads: all have the same hidden layer with a norm."""

import dataclasses

from keras_addnorm.zoo.config import ACTIVATIONS, key_of
from keras_addnorm.zoo.family import Head
from keras_addnorm.zoo.shared import heads
from keras_addnorm.zoo.weight import Weight, dense, norm

_DROPOUT = ("classifier_dropout", 0.0)
_POOLINGS = ("cls", "mean")
_TABLE = "model.embeddings.tok_embeddings.weight"


def all_heads():
    """The heads by transformers' class."""
    text = heads.text_classifier(dropout=_DROPOUT)

    def text_arguments(reader, config):
        pooling = reader.mapped("classifier_pooling", {x: x for x in _POOLINGS}, default="cls")
        return {**text.arguments(reader, config), "pooling": pooling}

    def text_keys(config, arguments):
        keys = text.config_keys(config, arguments)
        return {**keys, "classifier_pooling": arguments["pooling"]}

    pooled = dataclasses.replace(text, arguments=text_arguments, config_keys=text_keys)
    return {
        "ModernBertForSequenceClassification": _with_hidden(pooled),
        "ModernBertForTokenClassification": _with_hidden(heads.token_classifier(dropout=_DROPOUT)),
        "ModernBertForQuestionAnswering": _with_hidden(
            heads.question_answering("classifier", dropout=_DROPOUT)
        ),
        "ModernBertForMaskedLM": Head(
            "fill_mask", _lm_arguments, _lm_weights, _lm_keys, _lm_copies
        ),
    }


def _with_hidden(head):
    """A head of one dense layer, behind ModernBERT's hidden layer."""

    def arguments(reader, config):
        bias = reader.flag("classifier_bias", default=False)
        options = {
            "hidden_dim": config["hidden_dim"],
            "activation": _activation(reader),
            "norm": config["norm"],
            "epsilon": config["epsilon"],
            **({} if bias else {"use_bias": ["output"]}),
        }
        return {**head.arguments(reader, config), "head_options": options}

    def weights(config, arguments):
        return _hidden(config, arguments) + head.weights(config, arguments)

    def config_keys(config, arguments):
        options = arguments["head_options"]
        return {
            **head.config_keys(config, arguments),
            "classifier_activation": key_of(ACTIVATIONS, options["activation"]),
            "classifier_bias": _has_bias(arguments, "dense"),
        }

    return dataclasses.replace(head, arguments=arguments, weights=weights, config_keys=config_keys)


def _activation(reader):
    return reader.mapped("classifier_activation", ACTIVATIONS, default="gelu")


def _has_bias(arguments, name):
    bias = arguments["head_options"].get("use_bias", True)
    return bias if isinstance(bias, bool) else name in bias


def _hidden(config, arguments):
    width, norm_bias = config["hidden_dim"], config["norm"] == "layer_norm"
    rows = dense("head/dense", "head.dense", width, width, _has_bias(arguments, "dense"))
    return rows + norm("head/norm", "head.norm", width, norm_bias)


def _lm_arguments(reader, config):
    flags = {
        "dense": reader.flag("classifier_bias", default=False),
        "output": reader.flag("decoder_bias", default=True),
    }
    return {
        "activation": _activation(reader),
        "tie_weights": reader.flag("tie_word_embeddings", default=True),
        "head_options": {
            "norm": config["norm"],
            "use_bias": [name for name, flag in flags.items() if flag],
        },
    }


def _lm_weights(config, arguments):
    rows, tokens = _hidden(config, arguments), config["vocabulary_size"]
    if _has_bias(arguments, "output"):
        rows.append(Weight("logits/bias", "decoder.bias", (tokens,)))
    if not arguments["tie_weights"]:
        shape = (tokens, config["hidden_dim"])
        rows.append(Weight("logits/dense/kernel", "decoder.weight", shape, axes=(1, 0)))
    return rows


def _lm_copies(arguments):
    return {"decoder.weight": _TABLE} if arguments["tie_weights"] else {}


def _lm_keys(config, arguments):
    return {
        "classifier_activation": key_of(ACTIVATIONS, arguments["activation"]),
        "classifier_bias": _has_bias(arguments, "dense"),
        "decoder_bias": _has_bias(arguments, "output"),
        "tie_word_embeddings": arguments["tie_weights"],
    }
