"""What is special in DeBERTa-v2 and v3."""

import keras_hub
import numpy as np
import pytest

from keras_addnorm import zoo
from keras_addnorm.models import TransformerEncoder
from keras_addnorm.zoo import CheckpointError
from keras_addnorm.zoo.sources import read_object
from tests.common import to_numpy
from tests.zoo.common import DATA, compare, copy_checkpoint, edit_tensors, reference


def load(folder, task=None):
    return zoo.from_hugging_face(folder, task=task, preprocessor=None)


@pytest.mark.parametrize(
    ("name", "keys", "problem"),
    [
        ("plain", {"pos_att_type": "c2p|p2p"}, "`pos_att_type` must be some of c2p, p2c, got"),
        ("plain", {"pos_att_type": {"c2p": 1}}, "`pos_att_type` must be some of"),
        ("plain", {"pos_att_type": [["c2p"]]}, "`pos_att_type` must be some of"),
        ("plain", {"pos_att_type": []}, r"if and only if attention is relative, got True and \[\]"),
        ("plain", {"relative_attention": False}, "is relative, got False"),
        ("plain", {"relative_attention": False}, "`norm_rel_ebd` needs `relative_attention`"),
        ("plain", {"norm_rel_ebd": "rms_norm"}, "`norm_rel_ebd` must be some of none, layer_norm"),
        ("plain", {"position_buckets": 1}, "`position_buckets` must be above 1.*got 1 for"),
        ("plain", {"position_buckets": 62}, "above 1.*got 62 for distances up to 32"),
        ("plain", {"position_buckets": -2}, "`position_buckets` must be a whole number from -1"),
        ("plain", {"max_relative_positions": "far"}, "`max_relative_positions` must be a whole"),
        ("plain", {"share_att_key": 1}, "`share_att_key` must be true or false"),
        ("plain", {"attention_head_size": 8}, "`attention_head_size` is supported only as 4"),
        ("plain", {"embedding_size": 0}, "`embedding_size` must be a whole number from 1"),
        ("v2", {"conv_kernel_size": 4}, "`conv_kernel_size` must be odd, got 4"),
        ("v2", {"conv_act": "selu"}, "`conv_act` must be one of"),
        ("v2", {"conv_groups": 3}, "`conv_groups` must divide `hidden_size`, got 3 and 16"),
        ("v2", {"is_decoder": True}, "`is_decoder` is supported only as False"),
        (
            "v2_classifier",
            {"pooler_hidden_size": 8},
            "`pooler_hidden_size` is supported only as 16",
        ),
        ("v2_classifier", {"pooler_hidden_act": "selu"}, "`pooler_hidden_act` must be one of"),
        ("v2_classifier", {"pooler_dropout": 1}, "`pooler_dropout` must be a number"),
        ("masked_lm", {"legacy": False, "tie_word_embeddings": False}, "the new head is always"),
        ("masked_lm", {"legacy": 1}, "`legacy` must be true or false"),
    ],
)
def test_a_key_that_cannot_be_honoured_is_named(tmp_path, name, keys, problem):
    folder = copy_checkpoint(tmp_path, f"deberta-v2_{name}", **keys)
    with pytest.raises(CheckpointError, match=problem):
        load(folder, task=None if name in ("plain", "v2") else "auto")


def test_tables_of_positions_that_nothing_reads_are_let_through(tmp_path):
    folder = copy_checkpoint(tmp_path, "deberta-v2_plain")
    name = "embeddings.position_embeddings.weight"
    edit_tensors(folder, lambda tensors: tensors.update({name: np.zeros((32, 16), "float32")}))
    load(folder)


def test_the_authors_names_of_the_head(tmp_path):
    """Files from before `legacy`, with the head of masked tokens and what trained DeBERTaV3."""

    def rename(tensors):
        for name in list(tensors):
            if name.startswith("cls.predictions."):
                new = name.replace(".transform", "").replace("cls.predict", "lm_predict")
                new = new.replace("lm_predictions.", "lm_predictions.lm_head.")
                tensors[new] = tensors.pop(name)
        tensors["mask_predictions.dense.weight"] = np.zeros((16, 16), "float32")

    folder = copy_checkpoint(tmp_path, "deberta-v2_masked_lm")
    edit_tensors(folder, rename)
    inputs, expected = reference(DATA / "deberta-v2_masked_lm" / "reference.safetensors")
    compare(load(folder, "fill_mask"), inputs, expected)


def test_padding_does_not_reach_the_convolution(rng):
    encoder = load(DATA / "deberta-v2_v2")
    inputs, _ = reference(DATA / "deberta-v2_v2" / "reference.safetensors")
    keep = inputs["padding_mask"] == 1
    other = {**inputs, "token_ids": np.where(keep, inputs["token_ids"], 5)}
    one, two = (to_numpy(encoder(x)["sequence_output"]) for x in (inputs, other))
    np.testing.assert_array_equal(one[keep], two[keep])


def test_options_without_words_in_the_config_are_named(tmp_path):
    options = {"bucket_size": 4, "max_distance": 32, "norm": "rms_norm"}
    attention = {"disentangled": {"terms": ["c2p"], "share_projections": True}}
    encoder = TransformerEncoder(
        29,
        2,
        4,
        16,
        24,
        activation="gelu",
        epsilon=1e-7,
        position="disentangled",
        position_options=options,
        attention_options=attention,
        embedding_norm=True,
        embedding_options={"zero_padding": True},
    )
    with pytest.raises(ValueError, match="closest is 'deberta-v2', but: .*`norm_rel_ebd` must be"):
        zoo.to_hugging_face(encoder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_way_back_says_legacy(tmp_path):
    task = load(DATA / "deberta-v2_masked_lm", "auto")
    zoo.to_hugging_face(task, tmp_path / "new")
    assert read_object(tmp_path / "new", "config.json")["legacy"] is True


@pytest.mark.parametrize("buckets", [1, 62])
def test_buckets_of_kerashub_that_no_checkpoint_has(buckets):
    backbone = keras_hub.models.DebertaV3Backbone(
        29, 1, 2, 16, 24, max_sequence_length=32, bucket_size=buckets
    )
    with pytest.raises(CheckpointError, match="`bucket_size`"):
        zoo.from_keras_hub(backbone)
