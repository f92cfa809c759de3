"""Lint on files that are broken, or made to do harm: one error, soon, or a finding."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from keras_addnorm import export
from keras_addnorm.export.lint.load import load
from keras_addnorm.export.reader import read_model
from tests.export.lint_files import FLOAT, change, dense, layer_norm, only


def assert_refused(path, match):
    with pytest.raises(export.ExportError, match=match) as caught:
        export.lint_file(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    assert_refused(tmp_path / "nowhere.tflite", "which does not exist")
    assert_refused(tmp_path, "which is no file")
    for data in (b"", b"no model", b"\0\0\0\0TFL3", b"\0\0\0\0TFL3" + b"\xff" * 50):
        (tmp_path / "x.tflite").write_bytes(data)
        assert_refused(tmp_path / "x.tflite", "no TFLite model|a broken TFLite model")


def test_a_part_that_is_named_without_end(convert):
    path = convert(dense, FLOAT)

    def many(model):
        model.subgraphs[0].operators[0].inputs = [0] * 2_100_000

    change(path, many)
    assert_refused(path, "claims more than 2,000,000 parts")


def test_constants_that_lie_on_each_other(convert):
    path = convert(layer_norm(1e-6), FLOAT)
    data = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(data)
    buffers = model._tab.Vector(model._tab.Offset(12))
    sizes = [model.Buffers(i).DataLength() for i in range(model.BuffersLength())]
    largest = model.Buffers(int(np.argmax(sizes)))._tab.Pos
    for place in range(buffers, buffers + 4 * len(sizes), 4):
        data[place : place + 4] = (largest - place).to_bytes(4, "little")
    path.write_bytes(data)
    assert_refused(path, "its constants are larger than the file")


def test_a_file_that_takes_too_long(convert):
    model = read_model(convert(dense, FLOAT))
    assert load(model, seconds=0.001).error == "it takes more than 0.001 s to load"
    assert load(model).error is None and len(load(model).parts) == 1


def test_parts_that_are_not_there(convert):
    for attribute, value in (("inputs", [99, 1, 2]), ("outputs", [-2]), ("opcodeIndex", 7)):
        path = convert(dense, FLOAT)
        change(path, lambda m, a=attribute, v=value: setattr(m.subgraphs[0].operators[0], a, v))
        assert_refused(path, "it names part")


def test_an_operator_without_inputs(convert):
    path = convert(lambda x: tf.reduce_sum(dense(x), -1), FLOAT)
    change(path, lambda model: setattr(model.subgraphs[0].operators[-1], "inputs", []))
    assert_refused(path, "lacks what it must have")


def test_names_that_steer_the_terminal(convert):
    path = convert(dense, tf.TensorSpec((1, None, 64)))

    def rename(model):
        for tensor in model.subgraphs[0].tensors:
            tensor.name = b"\x1b[2J[red]\xff"

    change(path, rename)
    assert "\x1b" not in only(path, "dynamic-shape").message


def test_a_tensor_larger_than_memory(convert):
    path = convert(lambda x: dense(tf.nn.relu(x)), FLOAT)

    def grow(model):
        for tensor in model.subgraphs[0].tensors:
            if tensor.name in (b"serving_default_x:0", b"Relu"):
                tensor.shape = [40_000, 40_000, 64]

    change(path, grow)
    assert only(path, "does-not-load").severity == "error"


def test_changed_bytes_are_found_or_survived(convert):
    """Whatever a byte says, the reader ends, with a model or one error."""
    path = convert(layer_norm(1e-12), FLOAT)
    data, refused = path.read_bytes(), 0
    rng = np.random.default_rng(3)
    for _ in range(400):
        broken = bytearray(data)
        for place in rng.integers(8, len(data), 4):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            read_model(path)
        except export.ExportError:
            refused += 1
    assert 0 < refused < 400
    for _ in range(5):
        path.write_bytes(data[: rng.integers(8, len(data))])
        assert_refused(path, "a broken TFLite model")
