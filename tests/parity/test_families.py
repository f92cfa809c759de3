"""Every family against transformers and torch, live and both ways: `make parity`."""

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402

from keras_addnorm import zoo  # noqa: E402
from tests.zoo import cases  # noqa: E402
from tests.zoo.common import assert_same_tensors, compare, our_inputs  # noqa: E402
from tests.zoo.make_reference import make_checkpoint, run  # noqa: E402


@pytest.mark.parametrize("name", cases.CASES)
def test_there_and_back(tmp_path, name):
    model_type, *case = cases.CASES[name]
    theirs, inputs = make_checkpoint(cases.module_of(model_type), case, tmp_path / "a")
    expected = run(theirs, inputs)
    ours = our_inputs(inputs)
    compare(zoo.from_hugging_face(tmp_path / "a"), ours, expected)
    model = zoo.from_hugging_face(tmp_path / "a", task="auto", preprocessor=None)
    has_head = zoo.tasks.task_of(model) is not None
    if has_head:
        compare(model, ours, expected)
    zoo.to_hugging_face(model, tmp_path / "b", model_type=model_type)
    cls = type(theirs) if has_head else transformers.AutoModel
    again, report = cls.from_pretrained(tmp_path / "b", output_loading_info=True)
    fresh = {key for key in report["missing_keys"] if not key.startswith("pooler.")}
    family = zoo.FAMILIES[model_type]
    fresh = {key for key in fresh if not family.is_buffer(key.removeprefix(family.prefix))}
    assert not fresh and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert_same_tensors(tmp_path / "a", tmp_path / "b", model, family)
    outputs = run(again.eval(), inputs)
    for key in expected.keys() & outputs.keys() - {"pooled_output"}:
        # The same program and weights, which lie elsewhere in memory: sums may differ in order.
        np.testing.assert_allclose(outputs[key], expected[key], rtol=0, atol=2e-6, err_msg=key)
