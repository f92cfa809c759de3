"""Weights stored in fewer bits: their values, and the files run in LiteRT's own interpreter."""

import keras
import numpy as np
import pytest

from keras_addnorm import export, models
from keras_addnorm.export.flatbuffer import Graph, pack_int4, unpack_int4
from keras_addnorm.export.quantize import int4, rounding, weights
from keras_addnorm.export.quantize.calibration import record
from keras_addnorm.export.quantize.equalize import (
    channel_divisors,
    group_by_input,
    round_inputs,
    rounding_gain,
)
from keras_addnorm.export.quantize.rounding import product_errors, round_weights, second_moments
from keras_addnorm.export.quantize.sensitivity import most_sensitive
from keras_addnorm.export.runtime import LiteRTModel
from tests.export import common

RNG = np.random.default_rng(0)
INPUTS = {
    "token_ids": RNG.integers(1, 100, (8, 16), dtype="int32"),
    "padding_mask": (np.arange(16) < RNG.integers(4, 17, (8, 1))).astype("int32"),
}


def to_bytes(tmp_path, model, sequence_length=16, **arguments):
    path = tmp_path / "float.tflite"
    arguments |= {"verify": False, "overwrite": True, "sequence_length": sequence_length}
    export.to_tflite(model, path, **arguments)
    return path.read_bytes()


def run(tmp_path, data, inputs=INPUTS):
    path = tmp_path / "quantized.tflite"
    path.write_bytes(data)
    loaded = LiteRTModel(path)
    names = {spec.name for spec in loaded.inputs}
    return loaded({k: v for k, v in inputs.items() if k in names}), loaded.partitions


def cosine(left, right, keep=None):
    left, right = (x.reshape(-1, x.shape[-1]) for x in (left, right))
    result = (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)
    return result[keep.reshape(-1) > 0] if keep is not None else result


QUANTIZE = {
    "dynamic_int8": lambda data, inputs: weights.dynamic_int8(data),
    "equalized": lambda data, inputs: weights.dynamic_int8(data, [inputs]),
    "weight_only_int8": lambda data, inputs: weights.weight_only_int8(data),
    "float16": lambda data, inputs: weights.float16(data),
    "int4": lambda data, inputs: int4.int4(data, [inputs]),
    "int4 in blocks": lambda data, inputs: int4.int4(data, [inputs], block=32),
}
# One int8 step is 0.4 % of a row's largest value, one int4 step 7 %; norms follow each layer.
COSINES = {"float16": 0.99999, "int4": 0.9, "int4 in blocks": 0.9}


@pytest.mark.parametrize("length", [16, None])
@pytest.mark.parametrize("name", QUANTIZE)
def test_quantized_files_run_in_one_partition_and_stay_close(tmp_path, name, length):
    model = common.encoder(hidden_dim=64, num_segments=2, position="learned")
    inputs = {**INPUTS, "segment_ids": np.zeros((8, 16), "int32")}
    data = to_bytes(tmp_path, model, sequence_length=length)
    expected, _ = run(tmp_path, data, inputs)
    small = QUANTIZE[name](data, inputs)
    received, partitions = run(tmp_path, small, inputs)
    assert partitions == 1
    assert len(small) < len(data)
    found = cosine(expected["sequence_output"], received["sequence_output"], INPUTS["padding_mask"])
    assert found.min() >= COSINES.get(name, 0.99)


@pytest.mark.parametrize("name", ["dynamic_int8", "weight_only_int8", "float16", "int4"])
def test_any_batch_and_length(tmp_path, name):
    model = common.encoder(hidden_dim=64)
    data = to_bytes(tmp_path, model, sequence_length=None, batch_size=None)
    expected, _ = run(tmp_path, data)
    received, _ = run(tmp_path, QUANTIZE[name](data, INPUTS))
    found = cosine(expected["sequence_output"], received["sequence_output"], INPUTS["padding_mask"])
    assert found.min() >= COSINES.get(name, 0.99)


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_are_rounded_to_the_nearest_step_of_their_own(bits):
    values = RNG.normal(size=(50, 64)) * np.logspace(-6, 3, 50)[:, None]
    values[7] = 0
    integers, scales = weights.quantize_rows(values.astype("float32"), bits)
    error = np.abs(integers * scales[:, None] - values)
    assert (error <= scales[:, None] * 0.5001).all()
    assert np.abs(integers).max() == 2 ** (bits - 1) - 1 and (scales > 0).all()


def test_dequantized_weights_of_a_file_are_within_half_a_step(tmp_path):
    data = to_bytes(tmp_path, common.encoder())
    before, after = Graph(data), Graph(weights.dynamic_int8(data))
    checked = 0
    for old, new in zip(before.find("FULLY_CONNECTED"), after.find("FULLY_CONNECTED"), strict=True):
        weight = int(new.inputs[1])
        scales = after.tensors[weight].quantization.scale[:, None]
        error = after.constant(weight) * scales - before.constant(int(old.inputs[1]))
        assert after.dtype(weight) == "INT8" and (np.abs(error) <= 0.5001 * scales).all()
        checked += 1
    assert checked == 12


def test_int4_is_packed_two_a_byte():
    values = RNG.integers(-8, 8, (5, 7), dtype="int8")
    packed = pack_int4(values)
    assert packed.nbytes == 18
    np.testing.assert_array_equal(unpack_int4(packed, 35).reshape(5, 7), values)


def test_a_file_written_again_is_the_same_and_aligned(tmp_path):
    data = to_bytes(tmp_path, common.encoder())
    again = Graph(data).to_bytes()
    expected, received = run(tmp_path, data)[0], run(tmp_path, again)[0]
    for name in expected:
        np.testing.assert_array_equal(expected[name], received[name])
    start = np.frombuffer(again, "uint8").ctypes.data
    buffers = [b.data for b in Graph(again).model.buffers if b.data is not None]
    assert buffers and not any((b.ctypes.data - start) % 16 for b in buffers)


def test_the_tied_table_of_a_masked_lm_is_looked_up_and_multiplied_in_int8(tmp_path):
    model = models.MaskedLM(common.encoder(hidden_dim=64))
    data = to_bytes(tmp_path, model, sequence_length=16)
    inputs = {**INPUTS, "mask_positions": np.tile(np.arange(16, dtype="int32"), (8, 1))}
    inputs = {k: v for k, v in inputs.items() if k in Graph(data).signature_inputs()}
    expected, _ = run(tmp_path, data, inputs)
    for quantize in (weights.dynamic_int8, lambda data: int4.int4(data, [inputs])):
        small = quantize(data)
        received, _ = run(tmp_path, small, inputs)
        graph = Graph(small)
        tables = [graph.dtype(op.inputs[0]) for op in graph.find("GATHER")]
        assert "INT8" in tables
        matrices = {graph.dtype(op.inputs[1]) for op in graph.find("FULLY_CONNECTED")}
        assert "FLOAT32" not in matrices
        for name in expected:
            assert cosine(expected[name], received[name]).mean() > 0.9


@pytest.mark.parametrize(("hidden_dim", "block"), [(64, 64), (32, 32), (96, 32)])
def test_int4_tables_become_lookups_in_blocks(tmp_path, hidden_dim, block):
    data = to_bytes(tmp_path, common.encoder(hidden_dim=hidden_dim))
    graph = Graph(int4.int4(data, [INPUTS]))
    assert not graph.find("GATHER")
    (lookup,) = graph.find("EMBEDDING_LOOKUP")
    table = graph.tensors[int(lookup.inputs[1])]
    assert graph.dtype(lookup.inputs[1]) == "INT4"
    assert table.quantization.details.blockSize == block


def two_branches():
    """Products of which the second is three hundred times the first in the output."""
    x = keras.Input((64,), name="x")
    weak, strong = keras.layers.Dense(64, name="weak"), keras.layers.Dense(64, name="strong")
    model = keras.Model(
        x, keras.layers.Add()([weak(x), keras.layers.Activation("gelu")(strong(x))])
    )
    for layer, size in ((weak, 0.01), (strong, 3.0)):
        layer.kernel.assign(size * RNG.normal(size=(64, 64)).astype("float32"))
    return model, [{"x": RNG.normal(size=(40, 64)).astype("float32")}]


def test_the_matrix_that_the_output_depends_on_is_the_most_sensitive(tmp_path):
    model, samples = two_branches()
    data = to_bytes(tmp_path, model, sequence_length=None)
    graph = Graph(data)
    named = {
        graph.tensors[int(op.inputs[1])].name.decode(): int(op.inputs[1])
        for op in graph.find("FULLY_CONNECTED")
    }
    strong = {tensor for name, tensor in named.items() if "strong" in name}
    assert len(named) == 2 and len(strong) == 1
    assert most_sensitive(graph, named.values(), samples, share=0.5) == strong
    assert most_sensitive(graph, named.values(), samples, share=0.4) == set()
    assert most_sensitive(graph, named.values(), samples, share=1.0) == set(named.values())
    for tensor in named.values():
        np.testing.assert_array_equal(graph.constant(tensor), Graph(data).constant(tensor))


def test_int4_spends_a_share_on_int8(tmp_path):
    model, samples = two_branches()
    data = to_bytes(tmp_path, model, sequence_length=None)
    errors = {}
    for share in (0, 0.5):
        small = int4.int4(data, samples, share=share)
        graph = Graph(small)
        dtypes = [graph.dtype(op.inputs[1]) for op in graph.find("FULLY_CONNECTED")]
        assert sorted(dtypes) == (["INT4", "INT8"] if share else ["INT4", "INT4"])
        expected, _ = run(tmp_path, data, samples[0])
        received, _ = run(tmp_path, small, samples[0])
        (name,) = expected
        errors[share] = np.square(received[name] - expected[name]).mean()
    assert errors[0.5] < 0.2 * errors[0]


def correlated_inputs():
    mixing = RNG.normal(size=(64, 64)) * np.geomspace(1, 0.01, 64)[:, None]
    return RNG.normal(size=(500, 64)) @ mixing


@pytest.mark.parametrize("block", [None, 32])
def test_rounding_makes_smaller_errors_than_rounding_to_nearest(block):
    inputs = correlated_inputs()
    matrix = RNG.normal(size=(40, 64)).astype("float32")
    moments = second_moments(inputs, damping=0.01)
    integers, scales = round_weights(matrix, moments, block=block)
    nearest, steps = weights.quantize_rows(matrix, bits=4)
    assert integers.min() >= -8 and integers.max() <= 7
    rounded = integers * np.repeat(scales, 64 // scales.shape[1], axis=1)
    ours = product_errors(matrix - rounded, moments)
    theirs = product_errors(matrix - nearest * steps[:, None], moments)
    assert ours.sum() < 0.4 * theirs.sum()
    real = np.square(inputs @ (matrix - rounded).T).sum()
    assert real < 0.4 * np.square(inputs @ (matrix - nearest * steps[:, None]).T).sum()


def test_no_rounded_weight_alone_could_be_better(monkeypatch):
    monkeypatch.setattr(rounding, "SETTLED", 1e-9)
    monkeypatch.setattr(rounding, "SWEEPS", 100)
    inputs = correlated_inputs()
    matrix = RNG.normal(size=(8, 64)).astype("float32")
    moments = second_moments(inputs, damping=0.1)
    integers, scales = round_weights(matrix, moments)
    least = product_errors(matrix - integers * scales, moments)
    for column in range(64):
        for step in (-1, 1):
            moved = integers.copy()
            moved[:, column] = np.clip(moved[:, column] + step, -8, 7)
            assert (product_errors(matrix - moved * scales, moments) >= least * (1 - 1e-4)).all()
    inputs = inputs - inputs.mean(axis=0)
    damped = np.sqrt(0.1 * np.trace(inputs.T @ inputs) / 64) * np.eye(64)
    rows = np.concatenate([inputs, damped])  # Whose moments are those above.
    for row, values, scale in zip(matrix, integers, scales[:, 0], strict=True):
        fitted = np.linalg.lstsq((rows @ values)[:, None], rows @ row, rcond=None)[0][0]
        np.testing.assert_allclose(scale, fitted, rtol=1e-4)


@pytest.mark.parametrize("room", [0, 2**30])
def test_recordings_are_the_same_however_many_memory_has_room_for(tmp_path, monkeypatch, room):
    graph = Graph(to_bytes(tmp_path, common.encoder()))
    groups = group_by_input(graph, weights.require_weights(graph))
    runs = []
    monkeypatch.setattr(int4, "RECORDED_BYTES", room)
    monkeypatch.setattr(int4, "record", lambda *args: runs.append(args) or record(*args))
    recorded = list(int4._recorded(graph, groups, [INPUTS]))
    assert len(runs) == len(recorded) == (2 if room else len(groups))
    assert [tensor for some, _ in recorded for tensor in some] == list(groups)
    for some, wanted in recorded:
        for tensor, values in record(graph, some, [INPUTS]).items():
            np.testing.assert_array_equal(wanted[tensor], values)


def test_fitting_makes_good_for_inputs_that_are_off():
    clean = RNG.normal(size=(500, 32))
    noisy = clean * 0.8 + 0.1 * RNG.normal(size=(500, 32))
    matrix = RNG.normal(size=(16, 32)).astype("float32")
    targets = clean @ matrix.T
    fitted = int4.fit(matrix, noisy, targets, second_moments(noisy, damping=0.01))
    before = np.square(noisy @ matrix.T - targets).sum()
    assert np.square(noisy @ fitted.T - targets).sum() < 0.5 * before


def test_equalizing_helps_where_one_channel_is_far_larger():
    inputs = RNG.normal(size=(300, 32)) * np.where(np.arange(32) == 5, 60.0, 1.0)
    matrix = RNG.normal(size=(16, 32))
    divisors = channel_divisors(inputs, [matrix])
    assert rounding_gain(inputs, [matrix], divisors) > 4
    steps = (inputs.max(1) - inputs.min(1)) / 255
    assert (np.abs(round_inputs(inputs) - inputs) <= 0.5001 * steps[:, None]).all()


@pytest.mark.parametrize("quantize", [weights.dynamic_int8, weights.float16])
def test_a_model_without_large_weights_is_refused(tmp_path, quantize):
    x = keras.Input((4,), name="x")
    data = to_bytes(tmp_path, keras.Model(x, keras.layers.Dense(4)(x)))
    with pytest.raises(export.ExportError, match="under 1024 elements.*quantization=None"):
        quantize(data)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    model = common.plain_keras_model()
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, 1e6))
    with pytest.raises(export.ExportError, match="float16 holds values up to 65504.*1e"):
        weights.float16(to_bytes(tmp_path, model))
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.nan))
    with pytest.raises(export.ExportError, match="must be finite.*NaN or infinity"):
        weights.dynamic_int8(to_bytes(tmp_path, model))


def test_what_is_no_tflite_file_is_refused():
    with pytest.raises(export.ExportError, match="no TFLite model"):
        Graph(b"PK\x03\x04 not a model")
    with pytest.raises(export.ExportError, match="broken TFLite model"):
        Graph(b"\xff\xff\xff\x7fTFL3" + bytes(16))


def test_calibrating_without_samples_is_refused(tmp_path):
    with pytest.raises(export.ExportError, match="needs inputs.*Received: none"):
        int4.int4(to_bytes(tmp_path, common.encoder()), [])
