"""An export that cannot be right fails, says why, and leaves everything as it was."""

import dataclasses

import keras
import pytest

from keras_addnorm import export
from keras_addnorm.export import recipes
from keras_addnorm.export.inspect import read_contents
from tests.export import common


@pytest.fixture
def earlier(tmp_path):
    """A file with the name of the export, which must not be touched."""
    path = tmp_path / "m.tflite"
    path.write_bytes(b"an earlier file")
    yield path
    assert path.read_bytes() == b"an earlier file"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


class Inverse(keras.layers.Layer):
    """A layer with an op that TFLite does not have."""

    def call(self, x):
        return keras.ops.erfinv(keras.ops.tanh(x))


def test_an_op_that_is_not_built_in_is_named_with_its_layer(earlier):
    x = keras.Input((8,), name="x")
    model = keras.Model(x, Inverse(name="my_inverse")(keras.layers.Dense(8)(x)))
    with pytest.raises(export.ExportError, match="Erfinv in layer '.*my_inverse.*'.*keras.ops"):
        export.to_tflite(model, earlier, overwrite=True)


class Counter(keras.layers.Layer):
    """A layer that changes a variable when it is called."""

    def build(self, shape):
        self.count = self.add_weight(name="count", shape=(), trainable=False)
        self.built = True

    def call(self, x):
        self.count.assign_add(1.0)
        return x * self.count


def test_variables_are_named_with_their_layer(earlier):
    x = keras.Input((8,), name="x")
    model = keras.Model(x, Counter(name="my_counter")(keras.layers.Dense(8)(x)))
    with pytest.raises(export.ExportError, match="VAR_HANDLE for 'my_counter/count'.*Replace"):
        export.to_tflite(model, earlier, overwrite=True)


@pytest.mark.parametrize("export_to", [export.to_tflite, export.to_saved_model])
def test_a_failed_verification_leaves_the_earlier_result(tmp_path, monkeypatch, export_to):
    name = "m.tflite" if export_to is export.to_tflite else "m"
    export_to(common.embedder(), tmp_path / name, sequence_length=16)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    strict = dataclasses.replace(recipes.RECIPES["float32"], max_error=0.0)
    monkeypatch.setitem(recipes.RECIPES, "float32", strict)
    with pytest.raises(export.VerificationError, match="embedding: max abs error .* is above 0"):
        export_to(common.embedder(), tmp_path / name, sequence_length=16, overwrite=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_crash_leaves_nothing_behind(earlier, monkeypatch):
    def crash(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_addnorm.export.pipeline.run_verification", crash)
    with pytest.raises(KeyboardInterrupt):
        export.to_tflite(common.encoder(), earlier, sequence_length=16, overwrite=True)


def test_existing_files_are_not_replaced_unasked(earlier):
    with pytest.raises(FileExistsError, match="exists already.*Pass overwrite=True"):
        export.to_tflite(common.encoder(), earlier)


def test_an_existing_directory_is_not_replaced_unasked(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(FileExistsError, match="exists already.*Pass overwrite=True"):
        export.to_saved_model(common.encoder(), tmp_path / "m")


def test_quantized_keras_models(earlier):
    model = common.encoder()
    model.quantize("int8")
    with pytest.raises(export.ExportError, match="quantized layers.*quantization='dynamic_int8'"):
        export.to_tflite(model, earlier, overwrite=True)


def test_models_without_known_inputs(earlier):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(export.ExportError, match="Received: an object of type Subclassed. Wrap"):
        export.to_tflite(Subclassed(), earlier, overwrite=True)


def test_other_backends(earlier, monkeypatch):
    model = common.encoder()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(export.ExportError, match="the jax backend.*KERAS_BACKEND=tensorflow"):
        export.to_tflite(model, earlier, overwrite=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"quantization": "int3"}, "`quantization` must be None or one of 'float32'.*'int3'"),
        ({"sequence_length": 0}, "`sequence_length` must be a positive int.*=0"),
        ({"sequence_length": True}, "`sequence_length` must be a positive int.*=True"),
        ({"batch_size": -1, "sequence_length": 16}, "`batch_size` must be a positive int.*=-1"),
        ({"batch_size": 1.0, "sequence_length": 16}, "`batch_size` must be a positive int.*=1.0"),
        ({"sequence_length": 33}, "`sequence_length` must be at most 32.*=33.*=32 or less"),
    ],
)
def test_arguments(earlier, arguments, message):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(common.encoder(), earlier, overwrite=True, **arguments)


def test_the_ending_of_the_path(tmp_path):
    with pytest.raises(ValueError, match="`path` must end in '.tflite'.*Add the ending"):
        export.to_tflite(common.encoder(), tmp_path / "m.bin")


def test_inputs_with_two_open_axes(earlier):
    x = keras.Input((None, None, 3), name="image")
    model = keras.Model(x, keras.layers.GlobalAveragePooling2D()(x))
    with pytest.raises(export.ExportError, match="one more open axis.*image of shape"):
        export.to_tflite(model, earlier, overwrite=True)


@pytest.mark.parametrize("data", [b"", b"not a model at all", b"\0\0\0\0TFL3" + b"\xff" * 50])
def test_files_that_are_no_tflite_models(tmp_path, data):
    path = tmp_path / "x.tflite"
    path.write_bytes(data)
    with pytest.raises(export.ExportError, match="no TFLite model|a broken TFLite model"):
        read_contents(path)
    with pytest.raises(export.ExportError, match="LiteRT cannot load"):
        export.verify_file(common.encoder(), path)
