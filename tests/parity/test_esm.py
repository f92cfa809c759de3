"""ESM-2's rotary frequencies in half precision, against transformers: `make parity`."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.numpy import load_file, save_file  # noqa: E402

from keras_addnorm import zoo  # noqa: E402
from tests.zoo.cases.esm import BASE  # noqa: E402
from tests.zoo.common import compare, our_inputs  # noqa: E402
from tests.zoo.make_reference import randomize, run  # noqa: E402

LENGTH = 100
OLDER = "encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"


@pytest.mark.parametrize("older", [False, True])
def test_stored_frequencies(tmp_path, older):
    keys = {"rope_theta": 7.0, "max_position_embeddings": LENGTH, "hidden_size": 32}
    config = transformers.EsmConfig(**{**BASE, **keys})
    theirs = transformers.EsmModel(config).eval()
    randomize(theirs, 0)
    exact = theirs.rotary_embeddings.inv_freq.clone()
    rng = np.random.default_rng(0)
    ids = rng.integers(6, 29, (2, LENGTH))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    recomputed = run(theirs, inputs)
    theirs.rotary_embeddings.inv_freq.copy_(exact.half().float())
    expected = run(theirs, inputs)
    error = np.abs(recomputed["sequence_output"] - expected["sequence_output"]).max()
    assert error > 1e-3  # what it costs to compute them anew
    theirs.save_pretrained(tmp_path / "a")
    if older:  # once a layer, as in the files of 2022
        path = tmp_path / "a" / "model.safetensors"
        tensors = load_file(path)
        (name,) = (name for name in tensors if name.endswith("inv_freq"))
        stored = tensors.pop(name)
        tensors |= {OLDER.format(i): stored.copy() for i in range(config.num_hidden_layers)}
        save_file(tensors, path, metadata={"format": "pt"})
    encoder = zoo.from_hugging_face(tmp_path / "a")
    compare(encoder, our_inputs(inputs), expected)
    zoo.to_hugging_face(encoder, tmp_path / "b")
    again = run(transformers.AutoModel.from_pretrained(tmp_path / "b").eval(), inputs)
    np.testing.assert_array_equal(again["sequence_output"], expected["sequence_output"])
