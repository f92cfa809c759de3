"""Each lint rule on a real file that breaks it; our own exports; the command."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm import cli, export
from keras_addnorm.export.lint import RULES, lowest_runtime
from keras_addnorm.export.reader import read_model
from tests.export import common
from tests.export.lint_files import FLOAT, RNG, WEIGHTS, change, dense, found, layer_norm, only


def test_a_plain_model_has_no_errors_and_no_warnings(convert):
    path = convert(lambda x: tf.nn.relu(dense(x)), FLOAT)
    assert {finding.severity for finding in export.lint_file(path)} <= {"note"}


def test_flex(convert):
    path = convert(lambda x: dense(tf.math.erf(dense(x))), FLOAT, flex=True)
    finding = only(path, "flex")
    assert finding.severity == "error" and "Erf" in finding.message
    assert not found(path, "does-not-load")  # that is why


def test_custom_op(convert):
    path = convert(lambda x: tf.linalg.svd(x)[0], FLOAT, allow_custom_ops=True)
    finding = only(path, "custom-op")
    assert finding.severity == "error" and "Svd" in finding.message


def test_variables_that_nothing_sets(convert):
    layer = keras.layers.Dense(64)
    path = convert(
        lambda x: layer(x), FLOAT, module=keras.Sequential([keras.Input((8, 64)), layer])
    )
    findings = found(path, "variable")
    assert {finding.severity for finding in findings} == {"error"}
    assert any("READ_VARIABLE of a variable that nothing sets" in f.message for f in findings)


def test_variables_that_are_set(tmp_path):
    module = tf.Module()
    module.state = tf.Variable(tf.zeros((8, 64)))
    signature = [tf.TensorSpec((8, 64))]
    module.call = tf.function(lambda x: module.state.assign_add(x), input_signature=signature)
    tf.saved_model.save(module, tmp_path / "saved", signatures=module.call)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.experimental_enable_resource_variables = True
    path = tmp_path / "m.tflite"
    path.write_bytes(converter.convert())
    assert only(path, "call-once").severity == "warning"
    assert {finding.severity for finding in found(path, "variable")} == {"warning"}


def test_open_length(convert):
    path = convert(dense, tf.TensorSpec((1, None, 64), name="tokens"))
    assert "tokens (1, any, 64)" in only(path, "dynamic-shape").message
    assert not found(path, "two-open-axes")


def test_open_batch_and_length(convert):
    def heads(x):
        shape = tf.shape(x)
        y = tf.reshape(dense(x), (shape[0], shape[1], 4, 16))
        return tf.nn.softmax(tf.matmul(y, y, transpose_b=True))

    path = convert(heads, tf.TensorSpec((None, None, 64), name="tokens"))
    assert "tokens (any, any, 64)" in only(path, "two-open-axes").message
    assert any("RESHAPE" in finding.message for finding in found(path, "xnnpack-parts"))


def test_rank_5(convert):
    def groups(x):
        y = tf.transpose(tf.reshape(dense(x), (1, 8, 2, 4, 8)), (0, 2, 3, 1, 4))
        return tf.nn.softmax(y)

    finding = found(convert(groups, FLOAT), "tensor-rank")[0]
    assert finding.severity == "warning" and "rank 5" in finding.message


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("BROADCAST_TO", lambda x: tf.broadcast_to(x[:, :1], (1, 8, 64))),
        ("SELECT", lambda x: tf.where(x > 0, x, x * 0.1)),
        ("GATHER_ND", lambda x: tf.gather_nd(x, [[[0, 1], [0, 2]]])),
        ("TOPK_V2", lambda x: tf.math.top_k(x, 64)[0]),
    ],
)
def test_ops_between_the_parts_of_xnnpack(convert, name, function):
    path = convert(lambda x: dense(function(dense(x))), FLOAT)
    model = export.runtime.open_model(path)
    assert model.partitions == 2
    findings = [f for f in found(path, "xnnpack-parts") if f" {name} " in f.message]
    assert len(findings) == 1 and findings[0].message.startswith("2 parts")
    refused = [f for f in found(path, "gpu-op") if f.message.startswith(name)]
    assert len(refused) == (name not in ("SELECT",))


def test_the_analyzer_of_tensorflow_says_nothing(convert, capsys):
    """Why the conditions of GPU delegates are in `lint/gpu.py`. Should this fail, ask it too."""
    path = convert(lambda x: dense(tf.broadcast_to(dense(x)[:, :1], (1, 8, 64))), FLOAT)
    tf.lite.experimental.Analyzer.analyze(model_path=str(path), gpu_compatibility=True)
    assert "Your model looks compatible with GPU delegate" in capsys.readouterr().out
    assert "the delegate has no such op" in only(path, "gpu-op").message


def test_constants_beyond_half_precision(convert):
    mask = tf.TensorSpec((1, 8), name="mask")
    path = convert(lambda x, m: tf.nn.softmax(dense(x)[..., :8] + (1 - m) * -1e9), FLOAT, mask)
    finding = only(path, "fp16-overflow")
    assert finding.severity == "warning" and "-1e+09" in finding.message
    path = convert(lambda x, m: tf.nn.softmax(dense(x)[..., :8] + (1 - m) * -1e4), FLOAT, mask)
    assert not found(path, "fp16-overflow")


def test_nan_in_the_weights(convert):
    broken = WEIGHTS * tf.where(tf.eye(64) > 0, np.nan, 1.0)
    assert "NaN" in only(convert(lambda x: tf.matmul(x, broken), FLOAT), "not-finite").message


def test_integers_times_a_large_number(convert):
    ids = tf.TensorSpec((1, 8), tf.int32)
    path = convert(lambda i: (1.0 - tf.cast(i, tf.float32)) * 1e4, ids)
    assert "10000" in only(path, "fp16-integers").message
    assert "those above 6 overflow" in only(path, "fp16-integers").fix
    assert not found(convert(lambda i: tf.cast(i, tf.float32) * 0.1, ids), "fp16-integers")


def test_epsilon_below_half_precision(convert):
    finding = only(convert(layer_norm(1e-12), FLOAT), "fp16-epsilon")
    assert finding.severity == "warning" and "1e-12 before RSQRT" in finding.message
    assert not found(convert(layer_norm(1e-6), FLOAT), "fp16-epsilon")


def test_epsilon_that_float16_weights_lost(convert):
    path = convert(layer_norm(1e-12), FLOAT, optimizations=[tf.lite.Optimize.DEFAULT])
    assert "epsilon 1e-12" in only(path, "fp16-epsilon").message
    target = tf.lite.TargetSpec(supported_types=[tf.float16])
    options = {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": target}
    path = convert(layer_norm(1e-12), FLOAT, **options)
    finding = only(path, "fp16-epsilon")
    assert "epsilon 0 before RSQRT" in finding.message and "any precision" in finding.cost
    # And so it is: equal values divide 0 by 0.
    (output,) = export.runtime.open_model(path)({"x": np.ones((1, 8, 64), "float32")}).values()
    assert np.isnan(output).all()


def test_squares(convert):
    assert "a mean of squares" in only(convert(layer_norm(1e-6), FLOAT), "fp16-squares").message
    path = convert(lambda x: tf.reduce_sum(tf.square(dense(x)), -1), FLOAT)
    message = only(path, "fp16-squares").message
    assert "a sum of 64 squares" in message and "beyond 32 on average" in message


def full_integer(convert, mask):
    """A file of int8 weights and activations: scores with a mask, softmax."""

    def attend(x, keep):
        return tf.nn.softmax(dense(x) + (1 - keep) * mask)

    def calibrate():
        for _ in range(8):
            x = RNG.normal(size=(1, 8, 64)).astype("float32")
            yield [x, (RNG.random((1, 1, 64)) > 0.3).astype("float32")]

    return convert(
        attend,
        FLOAT,
        tf.TensorSpec((1, 1, 64)),
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=calibrate,
    )


def test_mask_of_a_full_integer_file(convert):
    findings = found(full_integer(convert, -1e9), "int8-mask")
    assert any("int8 values down to -1e+09" in f.message for f in findings)
    assert not found(full_integer(convert, -50.0), "int8-mask")


def test_tables_of_a_dynamic_range_file(convert):
    table = RNG.normal(size=(5000, 64)).astype("float32")
    table[0] *= 100
    positions = tf.constant(RNG.normal(size=(8, 64 * 64)), "float32")
    wide = tf.constant(RNG.normal(size=(64, 64 * 64)), "float32")

    def embed(ids):
        return tf.matmul(tf.gather(table, ids), wide) + positions

    ids = tf.TensorSpec((1, 8), tf.int32)
    path = convert(embed, ids, optimizations=[tf.lite.Optimize.DEFAULT])
    message = only(path, "one-scale").message
    assert "one scale for 5000 rows of 64" in message
    steps = int(message.split("half of the rows use ")[1].split(" ")[0])
    assert steps <= 2  # of 127: a row 100 times larger sets the scale
    finding = only(path, "float-weights")
    assert "0.13 MB of float32" in finding.message and finding.severity == "warning"
    plain = convert(embed, ids)
    assert not found(plain, "one-scale") and not found(plain, "float-weights")


def test_lowest_runtime(convert):
    path = convert(dense, FLOAT, optimizations=[tf.lite.Optimize.DEFAULT])
    message = only(path, "lowest-runtime").message
    assert message == "needs TFLite 2.17: FULLY_CONNECTED version 12"
    assert lowest_runtime(path) == "2.17"
    # The converter writes down what it found in TensorFlow's own table.
    written = bytes(read_model(path).metadata["min_runtime_version"]).rstrip(b"\0").decode()
    assert written == "2.17.0" and not found(path, "wrong-metadata")


def test_metadata_that_names_an_older_runtime(convert):
    path = convert(dense, FLOAT, optimizations=[tf.lite.Optimize.DEFAULT])

    def older(model):
        (entry,) = [m for m in model.metadata if m.name == b"min_runtime_version"]
        model.buffers[entry.buffer].data = list(b"2.3.0" + bytes(11))

    change(path, older)
    assert "says 2.3.0, the operators need 2.17" in only(path, "wrong-metadata").message


def test_a_version_from_the_future(convert):
    path = convert(dense, FLOAT)

    def newer(model):
        model.operatorCodes[0].version = 99

    change(path, newer)
    assert only(path, "unknown-version").message == "FULLY_CONNECTED version 99"
    finding = only(path, "does-not-load")
    assert finding.severity == "error" and "99" in finding.message


def test_every_rule_has_a_test_and_says_what_to_do():
    source = open(__file__, encoding="utf-8").read()
    slugs = [rule.slug for rule in RULES]
    assert len(slugs) == len(set(slugs))
    for rule in RULES:
        assert f'"{rule.slug}"' in source, rule.slug
        assert rule.cost.endswith(".") and rule.fix.endswith("."), rule.slug


OURS = {
    None: {"fp16-epsilon"},
    "float16": {"fp16-epsilon"},
    "dynamic_int8": {"fp16-epsilon", "float-weights"},
}


@pytest.mark.parametrize("quantization", OURS)
def test_our_own_exports(tmp_path, quantization):
    path = tmp_path / "m.tflite"
    export.to_tflite(common.encoder(), path, quantization=quantization, sequence_length=16)
    findings = export.lint_file(path)
    assert not [finding for finding in findings if finding.severity == "error"]
    warned = {finding.rule for finding in findings if finding.severity == "warning"}
    assert warned <= OURS[quantization] | {"gpu-op"}
    layers = [layer for finding in findings for layer in finding.layers]
    assert any("layer_1_attention" in layer for layer in layers)
    edges = {finding.rule for finding in findings if finding.rule.endswith("-edge")}
    assert edges == {"xnnpack-edge", "gpu-edge"}


@pytest.fixture
def run(capfd):
    def run(*arguments):
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


def test_the_command(run, convert, tmp_path):
    path = convert(lambda x: dense(tf.math.erf(dense(x))), FLOAT, flex=True)
    code, out, err = run("lint", path)
    assert code == 1 and "error flex" in out and "Erf" in out
    assert out.splitlines()[-1] == "1 error, 0 warnings, lowest runtime: TFLite 2.0"
    assert all(line.startswith("... ") for line in err.splitlines())
    path = convert(layer_norm(1e-12), FLOAT)
    code, out, _ = run("lint", path, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["errors"] == 0 and facts["warnings"] == 1
    assert facts["findings"][0]["rule"] == "fp16-epsilon"
    code, out, err = run("lint", tmp_path / "nowhere.tflite")
    assert code == 1 and out == "" and "does not exist" in err.splitlines()[-1]
