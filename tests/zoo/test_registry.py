"""Every published architecture has as many weights as were published; names lead to models."""

import re

import numpy as np
import pytest

import keras_addnorm
from keras_addnorm import zoo
from keras_addnorm.zoo import registry

ARCHITECTURES = registry.architectures()
SMALLEST = min(ARCHITECTURES, key=lambda name: ARCHITECTURES[name][1].parameters)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_number_of_weights_is_the_published_one(name):
    # Counted in the family's table, which `load_weights` holds to be exact for the tiny models.
    family, preset = ARCHITECTURES[name]
    config = registry.encoder_config(family, preset)
    tensors = {row.tensor: row.shape for row in family.weights(config)}
    assert (
        sum(int(np.prod(shape, dtype="int64")) for shape in tensors.values()) == preset.parameters
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_preset_says_where_it_comes_from(name):
    family, preset = ARCHITECTURES[name]
    assert re.fullmatch(r"[a-z0-9_]+", name)
    assert re.fullmatch(r"\d{4}\.\d{4,5}|10\.\d{4}/\S+", preset.paper)
    for tag, published in preset.tags.items():
        assert re.fullmatch(r"[a-z0-9_]+", tag)
        assert zoo.sources.REPOSITORY.fullmatch(published.repository)
        assert re.fullmatch(r"[A-Za-z0-9.-]+", published.license)
        assert published.package is None or published.package in zoo.sources.PACKAGES


# Larger ones would need more memory than a developer's machine has: ESM-2 has one of 60 GB.
BUILDABLE = [name for name, (_, preset) in ARCHITECTURES.items() if preset.parameters < 4e8]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDABLE)
def test_the_built_model_has_the_published_number_of_weights(name):
    encoder = keras_addnorm.from_preset(name)
    assert encoder.count_params() == ARCHITECTURES[name][1].parameters


def test_every_family_has_presets_and_names_are_unique():
    assert all(family.presets for family in zoo.FAMILIES.values())
    names = [name for family in zoo.FAMILIES.values() for name in family.presets]
    assert len(names) == len(set(names)) == len(ARCHITECTURES)


def test_list_presets():
    names = keras_addnorm.list_presets()
    assert names == sorted(names) and set(ARCHITECTURES) <= set(names)
    tagged = [name for name in names if "." in name]
    assert tagged and all(name.split(".")[0] in ARCHITECTURES for name in tagged)
    assert keras_addnorm.list_presets(SMALLEST) == [SMALLEST]
    of_bert = keras_addnorm.list_presets(family="bert")
    assert of_bert and set(keras_addnorm.list_presets("*", "bert")) == set(of_bert) < set(names)
    assert keras_addnorm.list_presets("no_such_*") == []
    with pytest.raises(ValueError, match="`family` must be one of 'bert'.*Received: family='gpt'"):
        keras_addnorm.list_presets(family="gpt")


def test_from_preset_builds_an_architecture():
    encoder = keras_addnorm.from_preset(SMALLEST, dtype="mixed_float16")
    assert encoder.count_params() == ARCHITECTURES[SMALLEST][1].parameters
    assert encoder.dtype_policy.name == "mixed_float16"


def test_an_architecture_has_no_task():
    with pytest.raises(ValueError, match="without weights, so it has no task.*task='embed'"):
        keras_addnorm.from_preset(SMALLEST, task="embed")


def test_an_unknown_name_is_told_the_closest(monkeypatch):
    with pytest.raises(ValueError, match=f"which is no folder here.*Did you mean.*'{SMALLEST}'"):
        keras_addnorm.from_preset(SMALLEST + "x")


@pytest.mark.parametrize(
    "name", ["kaggle://keras/bert/keras/bert_tiny_en_uncased", "roberta_base_en"]
)
def test_kaggle_offline(monkeypatch, name):
    from keras_hub.models import Backbone

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(Backbone, "from_preset", offline)
    with pytest.raises(OSError, match="Cannot get the KerasHub preset.*save_to_preset"):
        keras_addnorm.from_preset(name)


def test_a_preset_folder_of_keras_hub_becomes_an_encoder_of_ours(tmp_path):
    import keras_hub

    backbone = keras_hub.models.BertBackbone(50, 1, 2, 8, 12)
    backbone.save_to_preset(str(tmp_path / "hub"))
    encoder = keras_addnorm.from_preset(str(tmp_path / "hub"))
    assert isinstance(encoder, keras_addnorm.models.TransformerEncoder)
    value = encoder.token_embedding.embeddings.numpy()
    np.testing.assert_array_equal(value, backbone.token_embedding.embeddings.numpy())
    encoder.save_to_preset(str(tmp_path / "ours"))
    again = keras_addnorm.from_preset(str(tmp_path / "ours"))
    np.testing.assert_array_equal(again.token_embedding.embeddings.numpy(), value)
    with pytest.raises(zoo.CheckpointError, match="needs a preset of TextEmbedder"):
        keras_addnorm.from_preset(str(tmp_path / "ours"), task="embed")


def test_the_licence_of_a_source():
    for source in (
        "minilm_l6_h384.all_v2",
        "minilm",
        "hf://sentence-transformers/all-MiniLM-L6-v2",
    ):
        assert registry.license_of(source) == "Apache-2.0"
    for source in ("minilm_l6_h384", "somebody/something", "None"):
        assert registry.license_of(source) is None
