"""What is read at the first position only is computed there alone, and nothing else is."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_addnorm import export, models
from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.graph import infer
from keras_addnorm.export.runtime import LiteRTModel
from keras_addnorm.layers import (
    AddNorm,
    FeedForward,
    MultiHeadAttention,
    SequencePooling,
    TokenAndPositionEmbedding,
)
from tests.export import common

QUERY, OUTPUT, FEED_FORWARD = 1, 1, 2  # matrix products of the last block behind the cut
ALL = QUERY + OUTPUT + FEED_FORWARD


def products_of_one_row(tmp_path, model):
    """How many matrix products of a verified file of one sequence have one row."""
    path = tmp_path / "m.tflite"
    report = export.to_tflite(model, path, overwrite=True)
    assert max(found.max_scaled_error for found in report.verification.values()) < 1e-5
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # which tells the shape of each tensor
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    for tensor in interpreter.get_input_details():
        shape = [7 if size == -1 else size for size in tensor["shape_signature"]]
        interpreter.resize_tensor_input(tensor["index"], shape)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        ones = np.ones_like(interpreter.get_tensor(tensor["index"]))
        interpreter.set_tensor(tensor["index"], ones)
    interpreter.invoke()
    shapes = {x["index"]: x["shape"] for x in interpreter.get_tensor_details()}
    products = Graph(path.read_bytes()).find("FULLY_CONNECTED")
    return sum(np.prod(shapes[int(product.inputs[0])][:-1]) == 1 for product in products)


ENCODERS = {
    "post_norm": {},
    "pre_norm": {"residual": "pre_norm"},
    "deep_norm": {"residual": "deep_norm"},
    "sandwich_norm": {"residual": "sandwich_norm"},
    "layer_scale": {"residual": "layer_scale", "norm": "rms_norm"},
    "rotary": {"position": "rotary"},
    "alibi": {"position": "alibi"},
    "relative": {"position": "relative"},
    "grouped": {"attention_options": {"num_key_value_heads": 2}},
    "gate and norms": {"attention_options": {"use_gate": True, "qk_norm": "rms_norm"}},
    "window": {"attention_options": {"sliding_window": 4}},
    "gated": {"feed_forward_options": {"gated": True}, "activation": "silu"},
    "shared": {"share_layers": True},
    "batch_norm": {"norm": "batch_norm"},  # which is folded
}
MORE = {"gate and norms": 1, "gated": 1}  # products that others have not


@pytest.mark.parametrize("name", ENCODERS)
def test_the_last_block_of_a_cls_embedder_computes_one_row(tmp_path, name):
    encoder = common.encoder(**ENCODERS[name])
    embedder = models.TextEmbedder(encoder, pooling="cls")
    assert products_of_one_row(tmp_path, embedder) == ALL + MORE.get(name, 0)


def test_distances_of_every_query_keep_attention_whole(tmp_path):
    embedder = models.TextEmbedder(common.encoder(position="disentangled"), pooling="cls")
    assert products_of_one_row(tmp_path, embedder) == FEED_FORWARD


def test_bottlenecks_are_cut_too(tmp_path):
    options = {"bottleneck_dim": 16, "num_feed_forwards": 2, "attention_bottleneck": "none"}
    encoder = common.encoder(block_options=options)
    found = products_of_one_row(tmp_path, models.TextEmbedder(encoder, pooling="cls"))
    assert found == ALL + FEED_FORWARD + 2  # and the projections into the block and out of it


@pytest.mark.parametrize(
    "arguments",
    [
        {"sequence_length": 16},
        {"batch_size": None, "sequence_length": 16},
        {"batch_size": 4},
        {"drop_inputs": ("padding_mask",)},
        {"lengths": (8, 16)},
    ],
    ids=str,
)
def test_every_form_of_a_file_has_the_same_outputs(tmp_path, arguments):
    embedder = models.TextEmbedder(common.encoder(), pooling="cls")
    path = tmp_path / "m.tflite"
    report = export.to_tflite(embedder, path, **arguments)
    assert report.verification["embedding"].max_scaled_error < 1e-5
    assert LiteRTModel(path).partitions == 1


@pytest.mark.parametrize("quantization", ["dynamic_int8", "int4"])
def test_recipes_take_such_files(tmp_path, quantization):
    embedder = common.embedder(hidden_dim=64, intermediate_dim=128)
    model = models.TextEmbedder(embedder.backbone, "cls", preprocessor=embedder.preprocessor)
    own = {"calibration": ["a cat sits on the mat", "how do i reset my password ?"] * 8}
    path = tmp_path / "m.tflite"
    options = own if quantization == "int4" else {}
    export.to_tflite(model, path, quantization=quantization, verify=False, **options)
    loaded = LiteRTModel(path)
    ids = np.array([[2, 5, 6, 7, 8, 3]], "int32")
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": 0 * ids}
    cosine = float((loaded(inputs)["embedding"] * np.asarray(model(inputs))).sum())
    assert cosine > (0.999 if quantization == "dynamic_int8" else 0.9)


def test_classifiers_read_the_first_position(tmp_path):
    pooled = models.TextClassifier(common.encoder(pooler="tanh"), 3, pooling="pooler")
    head = 2  # of one row in every model: the pooler and the logits
    assert products_of_one_row(tmp_path, pooled) == ALL + head
    plain = models.TextClassifier(common.encoder(), 3, pooling="cls")
    assert products_of_one_row(tmp_path, plain) == ALL + 1


def test_class_tokens_of_images(tmp_path):
    encoder = models.ImageEncoder(
        (16, 16, 3), patch_size=4, num_layers=2, num_heads=4, hidden_dim=32, intermediate_dim=64
    )
    classifier = models.ImageClassifier(common.randomize(encoder), 5, pooling="cls")
    assert products_of_one_row(tmp_path, classifier) == ALL + 1


def test_what_is_read_elsewhere_is_computed_everywhere(tmp_path):
    encoder = common.encoder(pooler="tanh")
    assert products_of_one_row(tmp_path, encoder) == 1  # the pooler; sequence_output is read
    mean = models.TextEmbedder(common.encoder(), pooling="mean")
    assert products_of_one_row(tmp_path, mean) == 0
    both = models.TextClassifier(encoder, 3, pooling=["pooler", "mean"])
    assert products_of_one_row(tmp_path, both) == 2  # the pooler and the logits


@pytest.mark.parametrize(
    "take, cut",
    [
        (lambda x: x[:, 0], True),
        (lambda x: x[:, 0, :], True),
        (lambda x: x[:, :1], True),
        (SequencePooling("cls"), True),
        (lambda x: x[:, 1], False),
        (lambda x: x[:, -1], False),
        (lambda x: x[:, :2], False),
        (SequencePooling("cls", skip=1), False),
    ],
)
@pytest.mark.parametrize("mask_zero", [False, True])
def test_own_models(tmp_path, take, cut, mask_zero):
    ids = keras.Input((16,), dtype="int32", name="ids")
    x = TokenAndPositionEmbedding(50, 32, 32, mask_zero=mask_zero)(ids)
    x = block(x)
    model = common.randomize(keras.Model(ids, {"y": keras.layers.Identity()(take(x))}))
    assert products_of_one_row(tmp_path, model) == (ALL if cut else 0)


def block(x):
    x = AddNorm()(x, MultiHeadAttention(4)(x))
    return AddNorm()(x, FeedForward(64, "gelu")(x))


def inner(outputs=lambda x: x):
    """A model `(batch, 16, 32)` to be used in another one."""
    x = keras.Input((16, 32))
    return keras.Model(x, outputs(block(x)))


def twice(x, y):
    model = inner()
    return {"first": model(x)[:, 0], "mean": SequencePooling("mean")(model(y))}


def twice_in_a_row(x, y):
    model = inner()
    return {"first": model(model(x))[:, 0]}


def two_outputs(x, y):
    first, everywhere = inner(lambda x: [block(x), x])(x)
    return {"first": first[:, 0], "mean": SequencePooling("mean")(everywhere)}


def also_an_output(x, y):
    outputs = inner()(x)
    return {"first": outputs[:, 0], "all": outputs}


def nested(x, y):
    model = inner()
    outer = keras.Input((16, 32))
    outer = keras.Model(outer, AddNorm()(outer, FeedForward(64)(model(outer))))
    return {"first": outer(x)[:, 0], "mean": SequencePooling("mean")(model(y))}


def shared_layers(x, y):
    attention, joint = MultiHeadAttention(4), AddNorm()
    return {
        "first": joint(x, attention(x))[:, 0],
        "mean": SequencePooling("mean")(joint(y, attention(y))),
    }


def both_of_a_pair(x, y):
    normed, total = AddNorm(return_sum=True)(x, FeedForward(64)(x))
    return {"first": normed[:, 0], "mean": SequencePooling("mean")(total)}


def other_keys(x, y):
    return {"first": AddNorm()(x, MultiHeadAttention(4)(x, y))[:, 0]}


def bias_of_lists(x, y):
    bias = np.random.default_rng(0).normal(size=(1, 1, 16, 16)).tolist()
    return {"first": AddNorm()(x, MultiHeadAttention(4)(x, position_bias=bias))[:, 0]}


def causal(x, y):
    return {"first": AddNorm()(x, MultiHeadAttention(4)(x, use_causal_mask=True))[:, 0]}


def activation_over_positions(x, y):
    dense = keras.layers.Dense(8, activation=lambda x: keras.ops.softmax(x, axis=1))
    return {"first": dense(x)[:, 0]}


class Mixing(AddNorm):
    def call(self, x, y):
        return super().call(x, y) + keras.ops.mean(y, axis=1, keepdims=True)


def a_subclass(x, y):
    return {"first": Mixing()(x, y)[:, 0]}


@pytest.mark.parametrize(
    "build",
    [
        twice,
        twice_in_a_row,
        two_outputs,
        also_an_output,
        nested,
        shared_layers,
        both_of_a_pair,
        other_keys,
        bias_of_lists,
        causal,
        activation_over_positions,
        a_subclass,
    ],
)
def test_models_in_models_and_what_looks_at_other_positions(build):
    inputs = {name: keras.Input((16, 32), name=name) for name in "xy"}
    model = common.randomize(keras.Model(inputs, build(**inputs)))
    rng = np.random.default_rng(1)
    values = {name: rng.normal(size=(3, 16, 32)).astype("float32") for name in "xy"}
    found = tf.function(lambda values: infer(model, values))(values)
    for name, expected in model(values).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


def test_masks_from_outside_reach_a_model_inside():
    ids = keras.Input((16,), dtype="int32", name="ids")
    outputs = inner()(keras.layers.Embedding(50, 32, mask_zero=True)(ids))
    model = common.randomize(keras.Model({"ids": ids}, {"y": SequencePooling("cls")(outputs)}))
    values = {"ids": np.random.default_rng(0).integers(1, 50, (3, 16), dtype="int32")}
    values["ids"][1, :5] = 0  # The first position is padding, which attends to nothing.
    found = tf.function(lambda values: infer(model, values))(values)
    np.testing.assert_allclose(found["y"], model(values)["y"], atol=1e-5)


def test_loaded_models_are_cut_as_those_that_were_built(tmp_path):
    x = keras.Input((16, 32), name="x")
    model = common.randomize(keras.Model(x, {"y": keras.layers.Identity()(block(x)[:, 0])}))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert products_of_one_row(tmp_path, loaded) == ALL
