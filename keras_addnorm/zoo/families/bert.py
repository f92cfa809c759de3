"""BERT, and what has its architecture: MiniLM, BGE, E5, GTE, MxBai.

Source: Devlin et al., arXiv:1810.04805; names as in transformers' `BertModel`.
"""

from keras_addnorm.models.blocks import MAX_LAYERS, MAX_SIZE
from keras_addnorm.zoo.checkpoint import Weight
from keras_addnorm.zoo.family import Family
from keras_addnorm.zoo.word_piece import word_piece_preprocessor

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

IGNORED_KEYS = frozenset(
    # What the file is about.
    "model_type architectures _name_or_path transformers_version torch_dtype dtype "
    # Training and initialization.
    "initializer_range gradient_checkpointing classifier_dropout use_cache tie_word_embeddings "
    # Heads and tasks, not part of the encoder.
    "id2label label2id num_labels problem_type finetuning_task task_specific_params "
    "directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "
    "pooler_size_per_head pooler_type "
    # Padding is told by the mask; the ids of special tokens are the tokenizer's.
    "pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id "
    # How transformers runs the model, not what it computes.
    "return_dict output_hidden_states output_attentions chunk_size_feed_forward torchscript "
    "attn_implementation _attn_implementation_autoset".split()
)


def _encoder_config(config):
    config.must_be("position_embedding_type", "absolute")
    config.must_be("is_decoder", False)
    config.must_be("add_cross_attention", False)
    config.must_be("is_encoder_decoder", False)
    config.must_be("pruned_heads", {})
    hidden_dim = config.integer("hidden_size", high=MAX_SIZE)
    num_heads = config.integer("num_attention_heads", high=MAX_SIZE)
    if hidden_dim % num_heads:
        config.problems.append(
            f"config key `num_attention_heads` must divide `hidden_size`, got {num_heads} "
            f"and {hidden_dim}"
        )
    return {
        "vocabulary_size": config.integer("vocab_size", high=MAX_SIZE),
        "num_layers": config.integer("num_hidden_layers", high=MAX_LAYERS),
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "intermediate_dim": config.integer("intermediate_size", high=MAX_SIZE),
        "dropout": config.number("hidden_dropout_prob", 0.0, 0.999, default=0.1),
        "attention_dropout": config.number("attention_probs_dropout_prob", 0.0, 0.999, default=0.1),
        "activation": config.mapped("hidden_act", ACTIVATIONS, default="gelu"),
        "residual": "post_norm",
        "norm": "layer_norm",
        "epsilon": config.number("layer_norm_eps", 1e-30, 1.0, default=1e-12),
        "position": "learned",
        "max_sequence_length": config.integer("max_position_embeddings", high=MAX_SIZE),
        "num_segments": config.integer("type_vocab_size", high=MAX_SIZE, default=2),
        "embedding_norm": True,
    }


def _dense(variable, tensor, inputs, outputs):
    return [
        Weight(f"{variable}/kernel", f"{tensor}.weight", (outputs, inputs), transpose=True),
        Weight(f"{variable}/bias", f"{tensor}.bias", (outputs,)),
    ]


def _norm(variable, tensor, size):
    return [
        Weight(f"{variable}/gamma", f"{tensor}.weight", (size,)),
        Weight(f"{variable}/beta", f"{tensor}.bias", (size,)),
    ]


def _weight_table(config, has_pooler, prefix):
    width, inner = config["hidden_dim"], config["intermediate_dim"]
    embeddings = f"{prefix}embeddings"
    rows = [
        Weight(
            "embeddings/token_embedding/embeddings",
            f"{embeddings}.word_embeddings.weight",
            (config["vocabulary_size"], width),
        ),
        Weight(
            "embeddings/position_encoding/position_embeddings",
            f"{embeddings}.position_embeddings.weight",
            (config["max_sequence_length"], width),
        ),
        Weight(
            "embeddings/segment_embedding/embeddings",
            f"{embeddings}.token_type_embeddings.weight",
            (config["num_segments"], width),
        ),
        *_norm("embeddings/norm", f"{embeddings}.LayerNorm", width),
    ]
    for i in range(config["num_layers"]):
        ours, theirs = f"layer_{i}", f"{prefix}encoder.layer.{i}"
        attention, ffn = f"{ours}_attention", f"{ours}_feed_forward"
        rows += [
            *_dense(f"{attention}/query", f"{theirs}.attention.self.query", width, width),
            *_dense(f"{attention}/key", f"{theirs}.attention.self.key", width, width),
            *_dense(f"{attention}/value", f"{theirs}.attention.self.value", width, width),
            *_dense(f"{attention}/output", f"{theirs}.attention.output.dense", width, width),
            *_norm(f"{attention}_add_norm/norm", f"{theirs}.attention.output.LayerNorm", width),
            *_dense(f"{ffn}/intermediate", f"{theirs}.intermediate.dense", width, inner),
            *_dense(f"{ffn}/output", f"{theirs}.output.dense", inner, width),
            *_norm(f"{ffn}_add_norm/norm", f"{theirs}.output.LayerNorm", width),
        ]
    if has_pooler:
        rows += _dense("pooler", f"{prefix}pooler.dense", width, width)
    return rows


FAMILY = Family(
    encoder_config=_encoder_config,
    ignored_keys=IGNORED_KEYS,
    weight_table=_weight_table,
    renames={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    prefix="bert.",
    anchor="embeddings.word_embeddings.weight",
    pooler=("pooler.dense.weight", "tanh"),
    heads=("cls.", "classifier.", "qa_outputs."),
    buffers=frozenset({"embeddings.position_ids", "embeddings.token_type_ids"}),
    preprocessor=word_piece_preprocessor,
)
