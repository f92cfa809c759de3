"""What is read at the first position only is computed there alone, and nothing else is."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_addnorm import export, models
from keras_addnorm.export.flatbuffer import Graph
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
}
MORE = {"gate and norms": 1, "gated": 1}  # products that others have not


@pytest.mark.parametrize("name", ENCODERS)
def test_the_last_block_of_a_cls_embedder_computes_one_row(tmp_path, name):
    encoder = common.encoder(**ENCODERS[name])
    embedder = models.TextEmbedder(encoder, pooling="cls")
    assert products_of_one_row(tmp_path, embedder) == ALL + MORE.get(name, 0)


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
    batch_norm = models.TextEmbedder(common.encoder(norm="batch_norm"), pooling="cls")
    assert products_of_one_row(tmp_path, batch_norm) == 0


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
    x = AddNorm()(x, MultiHeadAttention(4)(x))
    x = AddNorm()(x, FeedForward(64, "gelu")(x))
    model = common.randomize(keras.Model(ids, {"y": keras.layers.Identity()(take(x))}))
    # Keras masks travel with tensors; what carries one is left as it is.
    expected = ALL if cut and not mask_zero else 0
    assert products_of_one_row(tmp_path, model) == expected
