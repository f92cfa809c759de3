"""ESM-2 and ESM-1b: proteins, pre-norm, rotary or learned positions, embeddings that know the mask.

Source: Lin et al., Science 379 (2023), bioRxiv 2022.07.20.500902; Rives et al., PNAS 118 (2021);
names as in transformers' `EsmModel`. Its contact head is not part of the encoder.
"""

import numpy as np

from keras_addnorm.layers.rotary_embedding import rotation_frequencies
from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.config import IGNORED_KEYS
from keras_addnorm.zoo.family import Family, KerasHub, Preset, Published
from keras_addnorm.zoo.shared import bert_like, heads, keras_hub_like
from keras_addnorm.zoo.weight import Weight, dense, norm, pre_norms, table

_POSITIONS = {"rotary": "rotary", "absolute": "learned"}
_FREQUENCIES = "rotary_embeddings.inv_freq"
# Older files have them once a layer; what transformers 5 writes has a "*" in place of the layer.
_LAYER_FREQUENCIES = "encoder.layer.{i}.attention.self.rotary_embeddings.inv_freq"
_ALL_FREQUENCIES = (
    _FREQUENCIES,
    _LAYER_FREQUENCIES.format(i="*"),
    _LAYER_FREQUENCIES.format(i=0),
)
_POSITION_TABLE = "embeddings.position_embeddings.weight"


def _encoder_config(config):
    config.encoder_only()
    config.must_be("is_folding_model", False)
    config.must_be("hidden_act", "gelu")
    hidden_dim = config.integer("hidden_size", high=MAX_SIZE)
    num_heads = config.integer("num_attention_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads)
    tokens = config.integer("vocab_size", high=MAX_SIZE)
    embedding_options = {"zero_padding": True}
    if config.optional("token_dropout", config.flag):
        last = tokens - 1
        embedding_options["mask_token_id"] = config.integer("mask_token_id", low=0, high=last)
    return {
        **_positions(config, embedding_options),
        "residual": "pre_norm",
        "norm": "layer_norm",
        "activation": "gelu",
        "vocabulary_size": tokens,
        "num_layers": config.integer("num_hidden_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("intermediate_size", high=MAX_SIZE),
        "dropout": config.number("hidden_dropout_prob", 0.0, 0.999, default=0.1),
        "attention_dropout": config.number("attention_probs_dropout_prob", 0.0, 0.999, default=0.1),
        "epsilon": config.number("layer_norm_eps", 1e-30, 1.0, default=1e-12),
        "embedding_norm": bool(config.optional("emb_layer_norm_before", config.flag)),
        "pooler": "tanh",
    }


def _positions(config, embedding_options):
    position = config.mapped("position_embedding_type", _POSITIONS, default="learned")
    length = config.integer("max_position_embeddings", high=MAX_SIZE)
    wavelength = config.number("rope_theta", 1e-3, 1e12, default=10000.0)
    options = {"position": position, "max_sequence_length": length}
    if position == "rotary":
        options["position_options"] = {"max_wavelength": wavelength}
    else:  # As in RoBERTa, the first token has the position behind the padding token's id.
        offset = 1 + config.integer("pad_token_id", low=0, high=MAX_SIZE)
        embedding_options["position_offset"] = offset
        options["max_sequence_length"] = bert_like.positions_behind(config, length, offset)
    return {**options, "embedding_options": embedding_options}


def _config_keys(config):
    options = config["embedding_options"]
    keys = {
        **bert_like.config_keys(config),
        "position_embedding_type": _POSITION_NAMES[config["position"]],
        "emb_layer_norm_before": config["embedding_norm"],
        "token_dropout": "mask_token_id" in options,
        "pad_token_id": options.get("position_offset", 2) - 1,
    }
    del keys["hidden_act"]
    keys["max_position_embeddings"] += options.get("position_offset", 0)
    if "mask_token_id" in options:
        keys["mask_token_id"] = options["mask_token_id"]
    if config["position"] == "rotary":
        keys["rope_theta"] = config["position_options"].get("max_wavelength", 10000.0)
    return keys


_POSITION_NAMES = {ours: theirs for theirs, ours in _POSITIONS.items()}


def _weights(config):
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    name, tokens = "embeddings/token_embedding/embeddings", config["vocabulary_size"]
    rows = table(name, "embeddings.word_embeddings.weight", tokens, width)
    if config["position"] == "learned":
        length = config["max_sequence_length"] + config["embedding_options"]["position_offset"]
        name = "embeddings/position_encoding/position_embeddings"
        rows += table(name, _POSITION_TABLE, length, width)
    if config["embedding_norm"]:
        rows += norm("embeddings/norm", "embeddings.layer_norm", width)
    pairs, last = pre_norms(config)
    rows += norm(last, "encoder.emb_layer_norm_after", width)
    for i, (attention_norm, ffn_norm) in enumerate(pairs):
        ours, theirs = f"layer_{i}", f"encoder.layer.{i}"
        rows += norm(attention_norm, f"{theirs}.attention.LayerNorm", width)
        for name in ("query", "key", "value"):
            tensor = f"{theirs}.attention.self.{name}"
            rows += dense(f"{ours}_attention/{name}", tensor, width, width)
        rows += dense(f"{ours}_attention/output", f"{theirs}.attention.output.dense", width, width)
        rows += norm(ffn_norm, f"{theirs}.LayerNorm", width)
        ffn = f"{ours}_feed_forward"
        rows += dense(f"{ffn}/intermediate", f"{theirs}.intermediate.dense", width, inner)
        rows += dense(f"{ffn}/output", f"{theirs}.output.dense", inner, width)
    return rows + dense("pooler", "pooler.dense", width, width) * (config["pooler"] is not None)


def _frequencies(config, dtype):
    size = config["hidden_dim"] // config["num_heads"]
    wavelength = config["position_options"].get("max_wavelength", 10000.0)
    return rotation_frequencies(size, wavelength, dtype).astype("float32")


def _read_frequencies(read, config):
    """Takes over frequencies that were rounded to half precision.

    transformers stores the frequencies and loads them. Those of ESM-2 were float16 in training,
    and a model that computes them anew computes something else.
    """
    values = {name: read(name) for name in _ALL_FREQUENCIES}
    name = next((name for name, value in values.items() if value is not None), None)
    if config["position"] != "rotary" or name is None:
        return []
    for dtype in (None, "float16"):
        want = _frequencies(config, dtype)
        # float32 powers are within a few units of 6e-8 of each other.
        if values[name].shape == want.shape and np.allclose(values[name], want, 1e-6, 0.0):
            if dtype is not None:
                config["position_options"]["frequency_dtype"] = dtype
            return []
    return [f"tensor `{name}` holds other frequencies than those of `rope_theta`"]


def _written_frequencies(config):
    dtype = config["position_options"].get("frequency_dtype")
    return {} if dtype is None else {_FREQUENCIES: _frequencies(config, dtype)}


def _from_keras_hub(config):
    hidden_dim = config.integer("hidden_dim", high=MAX_SIZE)
    num_heads = config.integer("num_heads", high=MAX_SIZE)
    config.heads_divide(hidden_dim, num_heads, "`num_heads`, `hidden_dim`")
    dropout = config.number("dropout", 0.0, 0.999)
    position = config.mapped("position_embedding_type", _POSITIONS)
    length = config.integer("max_sequence_length", high=MAX_SIZE)
    wavelength = config.number("max_wavelength", 1e-3, 1e12)
    # KerasHub numbers tokens from the id of the padding token on, transformers from the next one.
    offset = config.integer("pad_token_id", low=0, high=MAX_SIZE)
    rotary = position == "rotary"
    longest = length if rotary else bert_like.positions_behind(config, length, offset)
    bias = {} if config.flag("use_bias") else {"use_bias": False}
    return {
        "residual": "pre_norm",
        "norm": "layer_norm",
        "position": position,
        "vocabulary_size": config.integer("vocabulary_size", high=MAX_SIZE),
        "num_layers": config.integer("num_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("intermediate_dim", high=MAX_SIZE),
        "dropout": dropout,
        "attention_dropout": dropout,
        "activation": config.mapped("activation", _HUB_ACTIVATIONS),
        "epsilon": config.number("layer_norm_eps", 1e-30, 1.0),
        "embedding_norm": config.flag("use_pre_layer_norm"),
        "max_sequence_length": longest,
        "position_options": {"max_wavelength": wavelength} if rotary else {},
        "embedding_options": {"position_offset": offset} if offset and not rotary else {},
        "attention_options": bias,
        "feed_forward_options": dict(bias),
    }


# KerasHub resolves names as Keras does: "gelu" is the exact one.
_HUB_ACTIVATIONS = {name: name for name in ("gelu", "relu", "silu", "tanh")}


def _backbone_config(config):
    offset = config["embedding_options"].get("position_offset", 0)
    return {
        **{name: config[name] for name in (*keras_hub_like.SIZES, "dropout")},
        "use_bias": config["attention_options"].get("use_bias", True),
        "activation": config["activation"],
        "max_sequence_length": config["max_sequence_length"] + offset,
        "max_wavelength": config["position_options"].get("max_wavelength", 10000.0),
        "layer_norm_eps": config["epsilon"],
        "use_pre_layer_norm": config["embedding_norm"],
        "position_embedding_type": _POSITION_NAMES[config["position"]],
        "pad_token_id": offset,
    }


def _keras_hub_weights(config):
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    bias = config["attention_options"].get("use_bias", True)
    shape = (config["vocabulary_size"], width)
    rows = [Weight("embeddings/token_embedding/embeddings", "token_embedding/embeddings", shape)]
    if config["position"] == "learned":
        length = config["max_sequence_length"] + config["embedding_options"].get(
            "position_offset", 0
        )
        name = "embeddings/position_encoding/position_embeddings"
        rows.append(Weight(name, "position_embedding/embeddings", (length, width)))
    if config["embedding_norm"]:
        rows += keras_hub_like.layer_norm("embeddings/norm", "emb_layer_norm", width)
    pairs, last = pre_norms(config)
    rows += keras_hub_like.layer_norm(last, "output_layer_norm", width)
    for i, (attention_norm, ffn_norm) in enumerate(pairs):
        ours, theirs = f"layer_{i}", f"transformer_layer_{i}"
        rows += keras_hub_like.layer_norm(attention_norm, f"{theirs}/attention_norm", width)
        for name in ("query", "key", "value", "output"):
            tensor = f"{theirs}/attention_layer/{name[0]}_dense_layer"
            rows += _hub_dense(f"{ours}_attention/{name}", tensor, width, width, bias)
        rows += keras_hub_like.layer_norm(ffn_norm, f"{theirs}/ffn_norm", width)
        for name, sizes in (("intermediate", (width, inner)), ("output", (inner, width))):
            tensor = f"{theirs}/feedforward_{name}_dense"
            rows += _hub_dense(f"{ours}_feed_forward/{name}", tensor, *sizes, bias)
    return rows


def _hub_dense(variable, theirs, inputs, outputs, bias):
    return keras_hub_like.dense(variable, theirs, inputs, outputs)[: 2 if bias else 1]


def _preset(layers, width, heads, parameters, repository, paper, **keys):
    config = {
        "vocab_size": 33,
        "mask_token_id": 32,
        "pad_token_id": 1,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 1026,
        "layer_norm_eps": 1e-5,
        "token_dropout": True,
        **keys,
    }
    tags = {"uniref50": Published(f"facebook/{repository}", "MIT")}
    return Preset(config, parameters, paper, tags, pooler=False)


def _esm2(layers, width, heads, parameters, repository):
    keys = {"position_embedding_type": "rotary", "emb_layer_norm_before": False}
    paper = "10.1126/science.ade2574"
    return _preset(layers, width, heads, parameters, f"esm2_{repository}", paper, **keys)


# ESM-1b's embeddings are normalized, and its positions learned.
_ESM1B = {"position_embedding_type": "absolute", "emb_layer_norm_before": True}
_PRESETS = {
    "esm2_8m": _esm2(6, 320, 20, 7_408_960, "t6_8M_UR50D"),
    "esm2_35m": _esm2(12, 480, 20, 33_269_280, "t12_35M_UR50D"),
    "esm2_150m": _esm2(30, 640, 20, 147_728_000, "t30_150M_UR50D"),
    "esm2_650m": _esm2(33, 1280, 20, 649_400_320, "t33_650M_UR50D"),
    "esm2_3b": _esm2(36, 2560, 40, 2_832_442_880, "t36_3B_UR50D"),
    "esm2_15b": _esm2(48, 5120, 40, 15_102_868_480, "t48_15B_UR50D"),
    "esm1b_650m": _preset(
        *(33, 1280, 20, 650_716_160, "esm1b_t33_650M_UR50S", "10.1073/pnas.2016239118"), **_ESM1B
    ),
}


FAMILY = Family(
    model_type="esm",
    architecture="EsmModel",
    encoder_config=_encoder_config,
    config_keys=_config_keys,
    weights=_weights,
    prefix="esm.",
    anchor="embeddings.word_embeddings.weight",
    pooler="pooler.dense.weight",
    heads={
        "EsmForSequenceClassification": heads.text_classifier(
            dense="classifier.dense", output="classifier.out_proj", dropout=heads.ENCODER_DROPOUT
        ),
        "EsmForTokenClassification": heads.token_classifier(dropout=heads.ENCODER_DROPOUT),
        "EsmForMaskedLM": heads.masked_lm(
            dense="lm_head.dense",
            norm="lm_head.layer_norm",
            decoder="lm_head.decoder",
            table="esm.embeddings.word_embeddings.weight",
            bias="lm_head.bias",
            activation="gelu",
            decoder_bias=False,
        ),
    },
    head_prefixes=("lm_head.", "classifier."),
    buffers=frozenset(
        {
            *("embeddings.position_ids", _POSITION_TABLE, _LAYER_FREQUENCIES, *_ALL_FREQUENCIES),
            *("contact_head.regression.weight", "contact_head.regression.bias"),
        }
    ),
    renames=bert_like.RENAMES,
    read_tensors=_read_frequencies,
    written_tensors=_written_frequencies,
    ignored_keys=IGNORED_KEYS | {"esmfold_config", "vocab_list"},
    presets=_PRESETS,
    keras_hub=KerasHub(
        backbone="ESMBackbone",
        encoder_config=_from_keras_hub,
        backbone_config=_backbone_config,
        weights=_keras_hub_weights,
    ),
)
