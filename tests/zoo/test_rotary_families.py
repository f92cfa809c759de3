"""What is special in MobileBERT, ModernBERT, NomicBERT and ESM-2."""

import json

import numpy as np
import pytest

from keras_addnorm import zoo
from keras_addnorm.models import TransformerEncoder
from keras_addnorm.zoo import CheckpointError
from tests.common import to_numpy
from tests.zoo.common import DATA, compare, copy_checkpoint, edit_tensors, reference

_DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}


@pytest.mark.parametrize(
    "name, key, value, words",
    [
        ("mobilebert_plain", "normalization_type", "rms_norm", "one of layer_norm, no_norm"),
        ("mobilebert_changed", "layer_norm_eps", 1e-12, "supported only as that, got 1e-12"),
        ("mobilebert_plain", "true_hidden_size", 16, "supported only as 8"),
        ("mobilebert_plain", "num_feedforward_networks", 0, "from 1 to 100"),
        ("mobilebert_plain", "intra_bottleneck_size", 6, "must divide the features, got 4 and 6"),
        ("mobilebert_plain", "key_query_shared_bottleneck", False, "got 8 and 16"),
        ("mobilebert_plain", "trigram_input", 1, "true or false"),
        ("modernbert_plain", "layer_types", ["full_attention"] * 3, "a list of 4 of"),
        ("modernbert_plain", "layer_types", ["full_attention", "linear"] * 2, "a list of 4 of"),
        ("modernbert_plain", "rope_parameters", {"full_attention": _DYNAMIC}, "`rope_type`"),
        ("modernbert_plain", "rope_parameters", {"chunked_attention": {}}, "no kinds of attention"),
        ("modernbert_plain", "rope_parameters", {"full_attention": 3}, "must be an object"),
        ("modernbert_plain", "rope_parameters", [1], "must be an object"),
        ("modernbert_plain", "local_attention", 0, "from 1 to"),
        ("modernbert_plain", "norm_bias", "no", "true or false"),
        ("nomic_bert_plain", "rope_parameters", _DYNAMIC, "`rope_type` must be one of default"),
        ("nomic_bert_plain", "rope_parameters", {"partial_rotary_factor": 0.5}, "1.0 or 1"),
        ("nomic_bert_plain", "rope_parameters", {"beta_fast": 3}, "`beta_fast` is not understood"),
        ("nomic_bert_plain", "head_dim", 0, "from 1 to"),
        ("esm_plain", "is_folding_model", True, "supported only as False"),
        ("esm_plain", "position_embedding_type", "relative_key", "absolute, rotary"),
        ("esm_plain", "mask_token_id", 29, "from 0 to 28"),
        ("esm_plain", "rope_theta", 0.0, "a number from 0.001"),
        ("esm_absolute", "pad_token_id", 19, "must be above 20"),
        ("esm_plain", "hidden_act", "relu", "supported only as 'gelu'"),
    ],
)
def test_a_key_that_cannot_be_honoured_is_named(tmp_path, name, key, value, words):
    folder = copy_checkpoint(tmp_path, name, **{key: value})
    with pytest.raises(CheckpointError) as caught:
        zoo.from_hugging_face(folder)
    problems = [problem for problem in caught.value.problems if words in problem]
    assert problems and all("`" in problem for problem in problems), caught.value.problems


def test_modernbert_with_the_keys_of_its_first_release(tmp_path):
    """They said it with a period and two bases; the rest is as in `plain`."""
    config = json.loads((DATA / "modernbert_plain" / "config.json").read_text())
    for key in ("layer_types", "rope_parameters"):
        config.pop(key)
    config |= {
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "reference_compile": None,
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "absolute",
    }
    folder = copy_checkpoint(tmp_path, "modernbert_plain")
    (folder / "config.json").write_text(json.dumps(config))
    encoder = zoo.from_hugging_face(folder)
    compare(encoder, *reference(DATA / "modernbert_plain" / "reference.safetensors"))
    windows = [x.sliding_window for x in encoder.layers if x.name.endswith("_attention")]
    assert windows == [None, 3, 3, None]  # two tokens on either side


NOMIC_AI = {  # The keys of nomic-embed-text-v1.5, with the sizes of `nomic_bert_plain`.
    "activation_function": "swiglu",
    "attn_pdrop": 0.0,
    "auto_map": {"AutoModel": "modeling_hf_nomic_bert.NomicBertModel"},
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "fused_bias_fc": True,
    "fused_dropout_add_ln": True,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 18,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 16,
    "n_head": 4,
    "n_inner": 24,
    "n_layer": 2,
    "n_positions": 20,
    "pad_vocab_size_multiple": 1,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "type_vocab_size": 2,
    "use_flash_attn": True,
    "use_rms_norm": False,
    "vocab_size": 29,
}


def nomic_ai(tmp_path, **keys):
    folder = copy_checkpoint(tmp_path, "nomic_bert_plain")
    (folder / "config.json").write_text(json.dumps({**NOMIC_AI, **keys}))
    return folder


@pytest.mark.parametrize("scaling, longest", [(None, 20), (2.0, 18)])
def test_nomic_bert_with_its_own_keys(tmp_path, scaling, longest):
    encoder = zoo.from_hugging_face(nomic_ai(tmp_path, rotary_scaling_factor=scaling))
    compare(encoder, *reference(DATA / "nomic_bert_plain" / "reference.safetensors"))
    assert encoder.max_sequence_length == longest


def test_nomic_bert_rounds_its_vocabulary_up(tmp_path):
    folder = nomic_ai(tmp_path, vocab_size=27, pad_vocab_size_multiple=29)
    assert zoo.from_hugging_face(folder).vocabulary_size == 29


@pytest.mark.parametrize(
    "key, value",
    [
        ("prenorm", True),
        ("qkv_proj_bias", True),
        ("rotary_emb_fraction", 0.5),
        ("rotary_emb_interleaved", True),
        ("activation_function", "gelu"),
        ("use_rms_norm", True),
    ],
)
def test_what_nomic_ai_could_also_build_is_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=f"`{key}`"):
        zoo.from_hugging_face(nomic_ai(tmp_path, **{key: value}))


FREQUENCIES = "rotary_embeddings.inv_freq"


def edit_frequencies(folder, edit):
    def change(tensors):
        (name,) = (name for name in tensors if name.endswith(FREQUENCIES))
        tensors[FREQUENCIES] = np.asarray(edit(tensors.pop(name)), "float32")

    edit_tensors(folder, change)


def test_frequencies_that_were_stored_in_half_precision_are_kept(tmp_path):
    """As those of Meta's ESM-2, which transformers loads instead of computing them."""
    folder = copy_checkpoint(tmp_path, "esm_plain", rope_theta=7.0)
    exact = (7.0 ** (-np.arange(0, 4, 2) / 4)).astype("float32")
    edit_frequencies(folder, lambda _: exact)
    assert zoo.from_hugging_face(folder).position_options == {"max_wavelength": 7.0}
    edit_frequencies(folder, lambda _: exact.astype("float16"))
    encoder = zoo.from_hugging_face(folder)
    assert encoder.position_options == {"max_wavelength": 7.0, "frequency_dtype": "float16"}
    zoo.to_hugging_face(encoder, tmp_path / "back")
    again = zoo.from_hugging_face(tmp_path / "back")
    assert again.position_options == encoder.position_options
    stored = zoo.checkpoint.Checkpoint(tmp_path / "back", {}).read(FREQUENCIES)
    np.testing.assert_array_equal(stored, exact.astype("float16"))


@pytest.mark.parametrize("edit", [lambda x: 1.01 * x, lambda x: x[:1], lambda x: x.reshape(1, 2)])
def test_other_frequencies_are_refused(tmp_path, edit):
    folder = copy_checkpoint(tmp_path, "esm_plain")
    edit_frequencies(folder, edit)
    with pytest.raises(CheckpointError, match="other frequencies than those of `rope_theta`"):
        zoo.from_hugging_face(folder)


def test_padding_does_not_reach_the_proteins():
    inputs, _ = reference(DATA / "esm_plain" / "reference.safetensors")
    encoder, keep = zoo.from_hugging_face(DATA / "esm_plain"), inputs["padding_mask"] == 1
    other = {**inputs, "token_ids": np.where(keep, inputs["token_ids"], 7)}
    want, got = (to_numpy(encoder(x)["sequence_output"]) for x in (inputs, other))
    np.testing.assert_array_equal(got[keep], want[keep])


def test_what_keras_hub_has_no_word_for_is_said():
    encoder = zoo.from_hugging_face(DATA / "esm_plain")
    with pytest.raises(ValueError, match="the closest is 'esm'.*`embedding_options`|esm"):
        zoo.to_keras_hub(encoder)


def test_mobilebert_without_projection_has_no_way_back(tmp_path):
    """transformers then has a weight that nothing uses, and that we do not keep."""
    folder = copy_checkpoint(tmp_path, "mobilebert_plain", trigram_input=False, embedding_size=16)

    def widen(tensors):
        name = "embeddings.word_embeddings.weight"
        tensors[name] = np.pad(tensors[name], [(0, 0), (0, 10)])

    edit_tensors(folder, widen)
    encoder = zoo.from_hugging_face(folder)
    assert encoder.embedding_options == {}
    with pytest.raises(ValueError, match="a weight that nothing uses"):
        zoo.to_hugging_face(encoder, tmp_path / "back", model_type="mobilebert")


@pytest.mark.parametrize("rotary", [{"rotary_dim": 2}, {"interleaved": True}])
def test_rotations_that_no_config_can_say_are_refused(tmp_path, rotary):
    encoder = zoo.from_hugging_face(DATA / "nomic_bert_plain")
    config = {**encoder.get_config(), "position_options": rotary}
    with pytest.raises(ValueError, match="rope_parameters have no words for"):
        zoo.to_hugging_face(
            TransformerEncoder.from_config(config), tmp_path / "x", model_type="nomic_bert"
        )
