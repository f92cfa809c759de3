"""What every family promises, on tiny random checkpoints of it (tests/zoo/cases)."""

import keras_hub
import numpy as np
import pytest

from keras_addnorm import zoo
from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.sources import read_object
from tests.common import to_numpy
from tests.zoo import cases
from tests.zoo.common import DATA, assert_same_tensors, compare, reference

# KerasHub and we sum in different orders.
KERAS_HUB = 1e-5


@pytest.mark.parametrize("name", cases.FIXTURES)
def test_outputs_equal_those_of_transformers(name):
    inputs, expected = reference(DATA / name / "reference.safetensors")
    compare(zoo.from_hugging_face(DATA / name), inputs, expected)


@pytest.mark.parametrize("name", cases.FIXTURES)
def test_heads_give_the_logits_of_transformers(name):
    inputs, expected = reference(DATA / name / "reference.safetensors")
    if not any(key.endswith("logits") for key in expected):
        pytest.skip("a bare encoder")
    compare(zoo.from_hugging_face(DATA / name, task="auto", preprocessor=None), inputs, expected)


@pytest.mark.parametrize("name", cases.FIXTURES)
def test_the_way_back_gives_the_same_tensors_and_config(tmp_path, name):
    model = zoo.from_hugging_face(DATA / name, task="auto", preprocessor=None)
    family, _ = zoo.convert.read_config(DATA / name)
    zoo.to_hugging_face(model, tmp_path / "back", model_type=family.model_type)
    assert_same_tensors(DATA / name, tmp_path / "back", model, family)
    before, after = (
        family.encoder_config(ConfigReader(read_object(folder, "config.json")))
        for folder in (DATA / name, tmp_path / "back")
    )
    if getattr(model, "backbone", model).pooler is None:  # Told by the tensors that are there.
        before = {**before, "pooler": None}
        after = {**after, "pooler": None}
    assert before == after


@pytest.mark.parametrize("name", cases.HUB)
def test_keras_hub_both_ways(name):
    model_type, arguments = cases.HUB[name]
    hub = zoo.FAMILIES[model_type].keras_hub
    backbone = getattr(keras_hub.models, hub.backbone)(**arguments)
    rng = np.random.default_rng(0)
    for variable in backbone.weights:
        variable.assign(rng.normal(0.1, 0.5, variable.shape))
    encoder = zoo.from_keras_hub(backbone)
    inputs = _random_inputs(backbone, rng)
    mask = inputs.get("padding_mask")
    theirs = inputs["images"] if "images" in inputs else {k: inputs[k] for k in backbone.input}
    expected, outputs = backbone(theirs), encoder(inputs)
    again = zoo.to_keras_hub(encoder, model_type)
    assert type(again) is type(backbone)
    expected = expected if isinstance(expected, dict) else {"sequence_output": expected}
    back = again(theirs)
    back = back if isinstance(back, dict) else {"sequence_output": back}
    for key, value in outputs.items():
        kept = mask.astype(bool) if mask is not None and key == "sequence_output" else ...
        error = np.abs(to_numpy(value) - to_numpy(expected[key]))[kept].max()
        assert error <= KERAS_HUB, f"{key}: {error}"
        np.testing.assert_array_equal(to_numpy(back[key]), to_numpy(expected[key]))


def _random_inputs(backbone, rng):
    specs = backbone.input if isinstance(backbone.input, dict) else {"images": backbone.input}
    if "images" in specs:
        shape = (2, *specs["images"].shape[1:])
        return {"images": rng.normal(size=shape).astype("float32")}
    length = min(12, getattr(backbone, "max_sequence_length", 12))
    mask = (np.arange(length) < np.array([length, length // 2, 1])[:, None]).astype("int32")
    if "padding_mask" not in specs:  # ESM's masks the queries of padding, not the keys.
        mask = np.ones_like(mask)
    inputs = {"padding_mask": mask}
    inputs["token_ids"] = rng.integers(1, backbone.token_embedding.input_dim, mask.shape).astype(
        "int32"
    )
    padding = getattr(backbone, "pad_token_id", 0)
    inputs["token_ids"] = np.where(inputs["token_ids"] == padding, padding + 1, inputs["token_ids"])
    if "segment_ids" in specs:
        segments = rng.integers(0, backbone.num_segments, mask.shape)
        inputs["segment_ids"] = segments.astype("int32")
    return inputs
