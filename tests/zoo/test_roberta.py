"""RoBERTa's own rules: positions behind the padding id, and one segment that KerasHub has not."""

import keras_hub
import numpy as np
import pytest

from keras_addnorm import zoo
from keras_addnorm.models import TransformerEncoder
from tests.common import to_numpy
from tests.zoo.common import DATA, copy_checkpoint, reference

# The sum of two rows is rounded once more than they are alone.
FOLDED = 1e-5


def test_to_keras_hub_adds_the_segment_to_the_positions():
    inputs, expected = reference(DATA / "roberta_plain" / "reference.safetensors")
    encoder = zoo.from_hugging_face(DATA / "roberta_plain")
    assert np.abs(to_numpy(encoder.get_layer("embeddings").segment_embedding.embeddings)).min() > 0
    with pytest.raises(ValueError, match="`pooler` is 'tanh', the family has None"):
        zoo.to_keras_hub(encoder)
    bare = TransformerEncoder.from_config({**encoder.get_config(), "pooler": None})
    for layer in bare.layers:
        layer.set_weights(encoder.get_layer(layer.name).get_weights())
    backbone = zoo.to_keras_hub(bare)
    assert type(backbone) is keras_hub.models.RobertaBackbone
    assert type(zoo.to_keras_hub(bare, "xlm-roberta")) is keras_hub.models.XLMRobertaBackbone
    outputs = backbone({name: inputs[name] for name in ("token_ids", "padding_mask")})
    kept = inputs["padding_mask"].astype(bool)
    assert np.abs(to_numpy(outputs) - expected["sequence_output"])[kept].max() <= FOLDED


def test_from_keras_hub_to_hugging_face(tmp_path):
    backbone = keras_hub.models.RobertaBackbone(29, 1, 2, 8, 12, max_sequence_length=14)
    zoo.to_hugging_face(zoo.from_keras_hub(backbone), tmp_path / "new")
    encoder = zoo.from_hugging_face(tmp_path / "new")
    assert encoder.max_sequence_length == 14
    assert zoo.sources.read_object(tmp_path / "new", "config.json")["type_vocab_size"] == 1
    inputs = {"token_ids": np.arange(14)[None] + 1, "padding_mask": np.ones((1, 14), "int32")}
    np.testing.assert_array_equal(
        to_numpy(zoo.to_keras_hub(encoder)(inputs)), to_numpy(backbone(inputs))
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"pad_token_id": "one"}, "`pad_token_id` must be a whole number from 0"),
        ({"pad_token_id": -1}, "`pad_token_id` must be a whole number from 0"),
        ({"pad_token_id": 19}, "`max_position_embeddings` must be above 20, the position of the"),
    ],
)
def test_positions_that_cannot_be(tmp_path, keys, problem):
    with pytest.raises(zoo.CheckpointError, match=problem):
        zoo.from_hugging_face(copy_checkpoint(tmp_path, "roberta_plain", **keys))


def test_an_unknown_family_is_refused(tmp_path):
    encoder = zoo.from_hugging_face(DATA / "distilbert_plain")
    for convert, arguments in ((zoo.to_hugging_face, (tmp_path / "new",)), (zoo.to_keras_hub, ())):
        with pytest.raises(ValueError, match="must be one of 'bert'.*'t5'.*Leave it out"):
            convert(encoder, *arguments, model_type="t5")
    assert not (tmp_path / "new").exists()


def test_other_options_of_the_embeddings_are_refused(tmp_path):
    config = zoo.from_hugging_face(DATA / "roberta_plain").get_config()
    config["embedding_options"] = {"position_offset": 2, "embedding_scale": 3.0}
    encoder = TransformerEncoder.from_config(config)
    with pytest.raises(ValueError, match="'embedding_scale': 3.0}, the family has {'position_off"):
        zoo.to_hugging_face(encoder, tmp_path / "new", model_type="roberta")
