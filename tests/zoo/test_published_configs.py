"""Keys that published files have beside those of the presets: each is honoured or ignored."""

import pytest

from keras_addnorm import zoo
from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.registry import architectures

BERT = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2,
    "use_cache": True,
}
MULTILINGUAL = {
    "directionality": "bidi",
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
}
ROBERTA = {
    **{key: value for key, value in BERT.items() if key != "gradient_checkpointing"},
    **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    **{"type_vocab_size": 1, "layer_norm_eps": 1e-05},
}
EXTRA = {
    "bert_base_uncased": BERT,
    "bert_base_multilingual_cased": {**BERT, **MULTILINGUAL},
    "minilm_l6_h384": {**BERT, "_name_or_path": "nreimers/MiniLM-L6-H384-uncased"},
    "distilbert_base_uncased": {
        "activation": "gelu",
        "architectures": ["DistilBertForSequenceClassification"],
        "attention_dropout": 0.1,
        "dropout": 0.1,
        "finetuning_task": "sst-2",
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "initializer_range": 0.02,
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        "output_past": True,
        "pad_token_id": 0,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "transformers_version": "4.10.0.dev0",
    },
    "roberta_base": ROBERTA,
    "xlm_roberta_base": {**ROBERTA, "output_past": True},
    "electra_small": {
        **BERT,
        "summary_activation": "gelu",
        "summary_last_dropout": 0.1,
        "summary_type": "first",
        "summary_use_proj": True,
    },
    "albert_base": {
        **BERT,
        "attention_probs_dropout_prob": 0,
        "bos_token_id": 2,
        "classifier_dropout_prob": 0.1,
        "down_scale_factor": 1,
        "eos_token_id": 3,
        "gap_size": 0,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0,
        "inner_group_num": 1,
        "net_structure_type": 0,
        "num_hidden_groups": 1,
        "num_memory_blocks": 0,
    },
    "mpnet_base": {
        **{key: value for key, value in ROBERTA.items() if key != "type_vocab_size"},
        "relative_attention_num_buckets": 32,
    },
}


@pytest.mark.parametrize("name", EXTRA)
def test_all_keys_of_published_files_are_understood(name):
    family, preset = architectures()[name]
    keys = {**preset.config, **EXTRA[name], "model_type": family.model_type}
    reader = ConfigReader(keys, family.ignored_keys)
    config = family.encoder_config(reader)
    assert reader.finish() == []
    assert zoo.registry.encoder_config(family, preset).items() <= config.items()


@pytest.mark.parametrize(
    ("name", "keys", "problem"),
    [
        ("albert_base", {"num_hidden_groups": 12}, "`num_hidden_groups` is supported only as 1"),
        ("albert_base", {"inner_group_num": 2}, "`inner_group_num` is supported only as 1"),
        ("mpnet_base", {"relative_attention_num_buckets": 64}, "is supported only as 32"),
        ("mpnet_base", {"max_position_embeddings": 2}, "`max_position_embeddings` must be above 2"),
        ("distilbert_base_uncased", {"n_heads": 7}, "the heads must divide the features"),
        ("bert_base_cased", {"position_embedding_type": "relative_key"}, "only as 'absolute'"),
        ("roberta_base", {"is_decoder": True}, "`is_decoder` is supported only as False"),
    ],
)
def test_keys_that_other_functions_would_have(name, keys, problem):
    family, preset = architectures()[name]
    reader = ConfigReader({**preset.config, **keys}, family.ignored_keys)
    family.encoder_config(reader)
    assert len(reader.finish()) == 1 and problem in reader.finish()[0]
