"""All tasks: training, files, presets, integer weights, precision."""

import keras
import numpy as np
import pytest

from keras_addnorm import models
from tests.common import flat_outputs
from tests.models import tasks

each_task = pytest.mark.parametrize("name", tasks.TASKS)
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")


def assert_same(task, other, inputs):
    assert other.get_config() == task.get_config()
    assert_same_outputs(task, other, inputs)


def assert_same_outputs(task, other, inputs):
    assert type(other) is type(task)
    for got, want in zip(flat_outputs(other(inputs)), flat_outputs(task(inputs)), strict=True):
        np.testing.assert_array_equal(got, want)


@each_task
def test_keras_file_and_preset(rng, name, tmp_path):
    task, inputs = tasks.make(name, rng)
    task.save(tmp_path / "model.keras")
    assert_same(task, keras.saving.load_model(tmp_path / "model.keras"), inputs)
    task.save_to_preset(tmp_path / "preset")
    assert_same(task, type(task).from_preset(str(tmp_path / "preset")), inputs)


@each_task
def test_integer_weights(rng, name, tmp_path):
    task, inputs = tasks.make(name, rng, dtype="mixed_bfloat16")
    exact = np.concatenate([x.ravel() for x in flat_outputs(task(inputs))])
    task.quantize("int8")
    head = [w for w in task.weights if w.path.startswith(("head/", "logits/"))]
    kernels = {w.dtype for w in head if w.path.endswith("/kernel")}
    assert kernels == (set() if name == "embedder" else {"int8"})
    got = np.concatenate([x.ravel() for x in flat_outputs(task(inputs))])
    # A block and a head whose kernels have 255 steps; unrelated values correlate by 0.
    assert np.corrcoef(got, exact)[0, 1] > 0.98
    task.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [(w.path, w.dtype) for w in loaded.weights] == [(w.path, w.dtype) for w in task.weights]
    assert_same_outputs(task, loaded, inputs)


@each_task
def test_fit_and_evaluate_with_the_default_loss(rng, name):
    if name == "embedder":
        pytest.skip("has no default loss")
    task, inputs = tasks.make(name, rng)
    before = flat_outputs(task(inputs))
    labels = tasks.targets(name, rng)
    task.compile(run_eagerly=True)  # compiling takes longer than the training
    task.fit(inputs, labels, epochs=1, verbose=0)
    losses = task.evaluate(inputs, labels, verbose=0)
    assert np.isfinite(losses).all()
    trained = {w.path.split("/")[0] for w in task.trainable_weights}
    assert "head" in trained
    after = flat_outputs(task(inputs))
    assert all(np.isfinite(x).all() for x in after)
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    predictions = keras.tree.flatten(task.predict(inputs, verbose=0))
    for got, want in zip(predictions, after, strict=True):
        # `predict` is run in batches, which may sum in another order.
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "mixed_float16") for name in tasks.TASKS),
        *((name, "float16") for name in ("text", "masked")),
        *((name, "bfloat16") for name in ("embedder", "answer", "wider")),
    ],
)
def test_half_precision(rng, name, dtype):
    task, inputs = tasks.make(name, rng, dtype=dtype)
    outputs = keras.tree.flatten(task(inputs))
    mixed = dtype == "mixed_float16"
    want = "float32" if mixed and name != "embedder" else task.backbone.compute_dtype
    for output, spec in zip(outputs, keras.tree.flatten(task.output), strict=True):
        assert keras.backend.standardize_dtype(output.dtype) == spec.dtype == want
    exact, _ = tasks.make(name, np.random.default_rng(0))
    exact.set_weights([keras.ops.convert_to_numpy(w).astype("float32") for w in task.weights])
    for got, want in zip(flat_outputs(outputs), flat_outputs(exact(inputs)), strict=True):
        # Some ten roundings by 2^-9 (bfloat16) or 2^-12 (float16) of values of size 1 to 5.
        np.testing.assert_allclose(got, want, rtol=0, atol=0.15 if dtype == "bfloat16" else 0.03)


@pytest.mark.parametrize("name", ["text", "wider"])
def test_dtype_of_the_head(rng, name, tmp_path):
    task, inputs = tasks.make(name, rng, head_dtype="bfloat16")
    assert {w.dtype for w in task.head.weights} == {"bfloat16"}
    assert {w.dtype for w in task.backbone.weights} == {"float32"}
    task.save(tmp_path / "model.keras")
    assert_same(task, keras.saving.load_model(tmp_path / "model.keras"), inputs)


@pytest.mark.parametrize("name", ["text", "token", "answer", "masked", "image"])
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"head_options": {"hiden_dim": 4}}, "`head_options` must be a dict of arguments of Head"),
        ({"head_options": {"output_dim": 4}}, "without those that the model sets"),
        ({"head_optons": {}}, "Did you mean `head_options`?"),
    ],
)
def test_bad_options_are_named_with_their_fix(rng, name, kwargs, message):
    with pytest.raises(ValueError) as error:
        tasks.make(name, rng, **kwargs)
    assert message in str(error.value)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_backbone_of_another_kind_is_refused(name):
    cls, _, arguments = tasks.TASKS[name]
    want = "ImageEncoder" if cls is models.ImageClassifier else "TransformerEncoder"
    with pytest.raises(ValueError, match=f"`backbone` must be a keras_addnorm {want}"):
        cls(keras.Sequential(), **arguments)
