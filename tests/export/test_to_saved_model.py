"""SavedModels that need neither Keras nor this package."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm import export
from tests.common import to_numpy
from tests.export import common

# A program that cannot import Keras or this package, the way a server has neither.
CLIENT = '''
import sys

from importlib.machinery import ModuleSpec

class Block:
    """Finds the modules (TensorFlow asks whether Keras is there), but does not load them."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("keras", "keras_addnorm", "keras_hub", "keras_nlp", "tf_keras"):
            return ModuleSpec(name, self, origin=name, is_package=True)

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    def exec_module(self, module):
        raise ImportError(f"{module} is blocked")

sys.meta_path.insert(0, Block())
import numpy as np
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
inputs = {name: tf.constant(value) for name, value in np.load(sys.argv[2]).items()}
np.savez(sys.argv[3], **{name: value.numpy() for name, value in serve(**inputs).items()})
assert not any(name.split(".")[0] == "keras_addnorm" for name in sys.modules)
assert "keras" not in sys.modules
try:
    import keras
except ImportError:
    pass
else:
    raise AssertionError("keras is not blocked")
'''


@pytest.mark.parametrize("make", [common.embedder, common.own_model])
def test_any_batch_and_length(tmp_path, make):
    model = make()
    report = export.to_saved_model(model, tmp_path / "m")
    assert all(spec.shape == (None, None) for spec in report.inputs)
    assert (report.format, report.quantization) == ("saved_model", "float32")
    assert (tmp_path / "m" / "saved_model.pb").is_file()
    assert (tmp_path / "m.report.json").is_file()
    assert all(d.max_abs_error < 1e-4 for d in report.verification.values())


def test_runs_where_keras_cannot_be_imported(tmp_path):
    model = common.encoder(pooler="tanh")
    export.to_saved_model(model, tmp_path / "m")
    inputs = {
        "token_ids": np.array([[5, 9, 1, 7, 3], [2, 4, 0, 0, 0]], "int32"),
        "padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], "int32"),
    }
    np.savez(tmp_path / "in.npz", **inputs)
    arguments = [tmp_path / "m", tmp_path / "in.npz", tmp_path / "out.npz"]
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    outputs, expected = np.load(tmp_path / "out.npz"), model(inputs)
    assert sorted(outputs) == sorted(expected)
    for key in expected:
        np.testing.assert_allclose(outputs[key], to_numpy(expected[key]), atol=2e-5)


def structures():
    """Models by how they are called: with a dict, a tensor, a list, and containers in one."""
    a, b = (keras.Input((4,), name=name) for name in "ab")
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    ids = np.array([[5, 9, 1, 0], [2, 4, 0, 0]], "int32")
    difference = keras.layers.Subtract()([a, keras.layers.Rescaling(2.0)(b)])
    return {
        "dict": (common.encoder(), {"token_ids": ids, "padding_mask": (ids > 0).astype("int32")}),
        "tensor": (keras.Model(a, keras.layers.Dense(2)(a)), x),
        "list": (keras.Model([b, a], difference), [x, y]),
        "nested": (keras.Model({"q": a, "p": [b]}, difference), {"q": x, "p": [y]}),
    }


@pytest.mark.parametrize("name", ["dict", "tensor", "list", "nested"])
def test_called_as_the_model_is_in_tensorflow_and_as_a_layer_of_keras(tmp_path, name):
    model, inputs = structures()[name]
    export.to_saved_model(model, tmp_path / "m", verify=False)
    (expected,) = keras.tree.flatten(model(inputs))
    loaded = tf.saved_model.load(tmp_path / "m")
    layer = keras.layers.TFSMLayer(tmp_path / "m")  # which calls `serve`
    for outputs in (loaded.serve(inputs), layer(inputs)):
        (got,) = outputs.values()
        np.testing.assert_allclose(got, to_numpy(expected), atol=2e-5)


def test_static_shapes_on_request(tmp_path):
    report = export.to_saved_model(
        common.encoder(), tmp_path / "m", sequence_length=8, batch_size=2, verify=False
    )
    assert {spec.shape for spec in report.inputs} == {(2, 8)}
    assert report.verification == {}


def test_overwriting_replaces_the_whole_directory(tmp_path):
    export.to_saved_model(common.encoder(), tmp_path / "m")
    (tmp_path / "m" / "left_over").write_text("old")
    report = export.to_saved_model(common.encoder(num_layers=1), tmp_path / "m", overwrite=True)
    assert not (tmp_path / "m" / "left_over").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m.report.json"]
    assert keras.tree.flatten(report.verification)


def test_progress_is_announced(tmp_path):
    steps = []
    export.to_saved_model(common.encoder(num_layers=1), tmp_path / "m", progress=steps.append)
    assert len(steps) >= 4 and "tracing" in steps[0] and "comparing" in steps[-1]
