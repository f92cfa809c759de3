"""Scales and shifts that move into matrix products: what is left, and that outputs stay."""

import keras
import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.export import tflite
from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.products import simplify_products
from keras_addnorm.export.quantize.equalize import equalize, value_product
from keras_addnorm.export.quantize.weights import require_weights
from tests.export import common
from tests.export.test_weights import INPUTS, run, to_bytes

X = np.random.default_rng(1).normal(size=(5, 8)).astype("float32")


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """A function that makes a float32 file as the converter writes it, of rows of 8 features."""

    def convert(build):
        x = keras.Input((8,), name="x")
        model = keras.Model(x, {"y": build(x)})
        common.randomize(model)
        with monkeypatch.context() as patch:
            patch.setattr(tflite, "simplify_products", lambda data: data)
            data = to_bytes(tmp_path, model, sequence_length=None, batch_size=5)
        return data, np.asarray(model(X)["y"])

    return convert


def outputs(data):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], X)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


class Affine(keras.layers.Layer):
    """gamma x + beta"""

    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], name="gamma")
        self.beta = self.add_weight(shape=shape[-1:], name="beta_")

    def call(self, x):
        return keras.ops.add(keras.ops.multiply(x, self.gamma), self.beta)


def post_norm(x):
    normed = Affine()(keras.ops.tanh(x))
    hidden = keras.layers.Dense(6, activation="relu")(normed)
    return keras.layers.Add()([normed, keras.layers.Dense(8, use_bias=False)(hidden)])


def read_elsewhere(x):
    normed = Affine()(keras.ops.tanh(x))
    product = keras.layers.Dense(8)(normed)
    return keras.ops.multiply(keras.ops.tanh(normed), product)


def shared_branch(x):
    normed, branch = Affine()(keras.ops.tanh(x)), keras.layers.Dense(8)(x)
    total = keras.layers.Add()([normed, branch])
    return keras.ops.multiply(total, keras.ops.tanh(branch))


@pytest.mark.parametrize(
    "build, adds",
    [(post_norm, 1), (read_elsewhere, 1), (shared_branch, 2)],
)
def test_shifts_move_only_where_every_reader_takes_them(convert, build, adds):
    data, expected = convert(build)
    graph = Graph(simplify_products(data))
    assert len(graph.find("ADD")) == adds
    # Sums in another order: a few units in the last place of values around 10.
    np.testing.assert_allclose(outputs(graph.to_bytes()), expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_has_no_add_but_those_of_its_streams(tmp_path):
    data = to_bytes(tmp_path, common.encoder(hidden_dim=64, num_layers=2, position="learned"))
    graph = Graph(data)
    # Two branches a layer, epsilon in each of four norms, positions, and the last norm's beta.
    assert len(graph.find("ADD")) == 2 * 2 + 4 + 1 + 1
    assert all(op.builtinOptions.keepNumDims for op in graph.find("FULLY_CONNECTED"))
    # Queries, keys and values read one tensor, that of the norm before gamma.
    inputs = [int(operator.inputs[0]) for operator in graph.find("FULLY_CONNECTED")]
    assert len(set(inputs)) == 2 * 4
    # One after another, while a cache holds it.
    names = [graph.name(operator) for operator in graph.operators]
    first = names.index("FULLY_CONNECTED")
    heads = ["FULLY_CONNECTED", "RESHAPE", "TRANSPOSE"]
    assert names[first : first + 10] == [*heads, *heads, *heads, "BATCH_MATMUL"]


@pytest.mark.parametrize("length", [16, None])
@pytest.mark.parametrize("masked", [True, False])
def test_the_inputs_of_output_projections_are_equalized_by_the_values(tmp_path, length, masked):
    model = common.encoder(hidden_dim=64, num_layers=2, position="learned")
    for weight in model.weights:
        if "value/kernel" in weight.path:
            weight.assign(weight * np.geomspace(0.1, 10, weight.shape[-1]))
    drop = () if masked else ("padding_mask",)
    data = to_bytes(tmp_path, model, sequence_length=length, drop_inputs=drop)
    expected, _ = run(tmp_path, data)
    graph = Graph(data)
    found = [value_product(graph, int(op.inputs[0])) for op in graph.find("FULLY_CONNECTED")]
    assert len([product for product in found if product is not None]) == 2
    before = len(graph.find("MUL"))
    names = [name for name in INPUTS if masked or name != "padding_mask"]
    changed = equalize(graph, require_weights(graph), [{name: INPUTS[name] for name in names}])
    assert changed >= 2 and len(graph.find("MUL")) <= before + changed - 2
    received, partitions = run(tmp_path, graph.to_bytes())
    assert partitions == 1
    np.testing.assert_allclose(
        received["sequence_output"], expected["sequence_output"], rtol=1e-4, atol=1e-4
    )


def test_a_value_product_with_fewer_heads_is_left_alone(tmp_path):
    model = common.encoder(hidden_dim=64, num_heads=4, attention_options={"num_key_value_heads": 2})
    graph = Graph(to_bytes(tmp_path, model))
    found = [value_product(graph, int(op.inputs[0])) for op in graph.find("FULLY_CONNECTED")]
    assert found == [None] * len(found)


def attend(values, scores, x):
    """Rows of 16 features: the average of `values` by heads, `(1, positions, 2, 8)`."""
    ops = keras.ops
    v = ops.transpose(values, (0, 2, 1, 3))
    scores = ops.reshape(keras.layers.Dense(scores)(x), (1, 5, 2, -1))
    weights = ops.softmax(ops.transpose(scores, (0, 2, 1, 3)), axis=-1)
    context = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
    return keras.layers.Dense(8, name="last")(ops.reshape(context, (5, 16)))


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_values_behind_an_activation_are_left_alone(convert, activation):
    def build(x):
        values = keras.layers.Dense(16, activation=activation)(x)
        return attend(keras.ops.reshape(values, (1, 5, 2, 8)), 10, x)

    graph = Graph(simplify_products(convert(build)[0]))
    last = graph.find("FULLY_CONNECTED")[-1]
    assert (value_product(graph, int(last.inputs[0])) is not None) == (activation is None)


def test_values_of_half_rows_are_left_alone(convert):
    def build(x):
        values = keras.layers.Dense(32)(x)
        return attend(keras.ops.reshape(values, (1, 10, 2, 8)), 20, x)

    graph = Graph(simplify_products(convert(build)[0]))
    last = graph.find("FULLY_CONNECTED")[-1]
    assert value_product(graph, int(last.inputs[0])) is None


def test_positions_beyond_the_table_are_an_error_not_another_row(tmp_path):
    from keras_addnorm.export.runtime import LiteRTModel

    model = common.encoder(max_sequence_length=16, position="learned")
    path = tmp_path / "any.tflite"
    export.to_tflite(model, path)
    ids = np.ones((1, 17), "int32")
    with pytest.raises(RuntimeError, match="gather index out of bounds"):
        LiteRTModel(path)({"token_ids": ids, "padding_mask": ids})
