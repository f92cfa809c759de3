"""Fixed integer ranges: rewritings that must be exact, and files run in LiteRT's interpreter."""

import keras
import numpy as np
import pytest

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.flatbuffer import Graph
from keras_addnorm.export.inspect import HYBRID_PRODUCT, read_contents
from keras_addnorm.export.quantize import calibration, mixed_int8, rewrites
from keras_addnorm.export.quantize.full_int8 import full_int8
from keras_addnorm.export.quantize.static import quantize_operators, tensors_between
from tests.export import common
from tests.export.test_weights import INPUTS, cosine, run, to_bytes

RNG = np.random.default_rng(1)
# What ranges are chosen by: other rows than those that files are tested with, some padded.
SAMPLES = [
    {
        "token_ids": RNG.integers(1, 100, (32, 16), dtype="int32"),
        "padding_mask": (np.arange(16) < RNG.integers(3, 17, (32, 1))).astype("int32"),
    }
]


def tiny(**arguments):
    return common.encoder(hidden_dim=64, intermediate_dim=128, activation="gelu", **arguments)


def worst(expected, received, keep=None):
    return cosine(expected["sequence_output"], received["sequence_output"], keep).min()


def names_of(graph, *dtypes):
    return {graph.name(op) for op in graph.operators if graph.dtype(op.outputs[0]) in dtypes}


class TestRewrites:
    """Each leaves the outputs as they are, to the last digits of float32."""

    @staticmethod
    def split_outliers(graph):
        layers = rewrites.find_feed_forwards(graph)
        assert len(rewrites.split_outliers(graph, layers, SAMPLES)) == len(layers) == 2

    @staticmethod
    def equalize_inputs(graph):
        layers = rewrites.find_feed_forwards(graph)
        groups = {int(expand.inputs[0]): [expand] for expand, _, _ in layers}
        rewrites.equalize_inputs(graph, groups, SAMPLES)

    @staticmethod
    def scale_outputs(graph):
        contracts = [contract for _, _, contract in rewrites.find_feed_forwards(graph)]
        rewrites.scale_outputs(graph, contracts, SAMPLES)

    @staticmethod
    def split_tables(graph):
        tables = len(graph.find("GATHER"))  # of positions too, where the length is open
        rewrites.split_tables(graph)
        assert len(graph.find("GATHER")) == 2 * tables > 0

    @staticmethod
    def square_by_product(graph):
        assert rewrites.square_by_product(graph)

    @staticmethod
    def center_values(graph):
        found = mixed_int8.find_attentions(graph)
        assert len(mixed_int8.center_values(graph, found)) == 2

    @pytest.mark.parametrize(
        "rewrite",
        [
            *("split_outliers", "equalize_inputs", "scale_outputs"),
            *("split_tables", "square_by_product", "center_values"),
        ],
    )
    @pytest.mark.parametrize("length", [16, None])
    def test_outputs_stay(self, tmp_path, rewrite, length):
        data = to_bytes(tmp_path, tiny(), sequence_length=length)
        expected, _ = run(tmp_path, data)
        graph = Graph(data)
        before = len(graph.operators)
        getattr(self, rewrite)(graph)
        received, partitions = run(tmp_path, graph.to_bytes())
        assert partitions == 1 and len(graph.operators) > before
        np.testing.assert_allclose(
            received["sequence_output"], expected["sequence_output"], rtol=1e-4, atol=1e-4
        )

    def test_a_fully_padded_row_stays_without_attention_after_centering(self, tmp_path):
        inputs = {**INPUTS, "padding_mask": np.zeros_like(INPUTS["padding_mask"])}
        data = to_bytes(tmp_path, tiny())
        expected, _ = run(tmp_path, data, inputs)
        graph = Graph(data)
        mixed_int8.center_values(graph, mixed_int8.find_attentions(graph))
        received, _ = run(tmp_path, graph.to_bytes(), inputs)
        np.testing.assert_allclose(
            received["sequence_output"], expected["sequence_output"], rtol=1e-4, atol=1e-4
        )

    def test_outliers_are_the_largest_channels(self, tmp_path):
        model = tiny()
        expand = next(w for w in model.weights if w.shape == (64, 128))
        kernel = keras.ops.convert_to_numpy(expand).copy()
        kernel[:, 77] *= 20
        expand.assign(kernel)
        graph = Graph(to_bytes(tmp_path, model))
        layers = rewrites.find_feed_forwards(graph)
        weight = graph.constant(int(layers[0][0].inputs[1]))
        (branch, *_), *_ = rewrites.split_outliers(graph, layers, SAMPLES)
        apart = graph.constant(int(branch.inputs[1]))
        assert len(apart) == 6  # 128 / 24, rounded up
        assert any(np.array_equal(row, weight[77]) for row in apart)
        rest = graph.constant(int(layers[0][0].inputs[1]))
        assert len(rest) == 122 and not any(np.array_equal(row, weight[77]) for row in rest)


class TestFullInt8:
    # Every tensor has 255 steps, each 0.4 % of its range; two layers of five roundings each.
    LIMIT = 0.98

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"residual": "pre_norm", "norm": "rms_norm"},
            {"position": "learned", "num_segments": 2, "embedding_norm": True},
        ],
        ids=["post_norm", "pre_norm", "bert"],
    )
    def test_products_are_int8_and_the_stream_is_int16(self, tmp_path, arguments):
        data = to_bytes(tmp_path, tiny(**arguments))
        segments = {"segment_ids": np.zeros((32, 16), "int32")}
        samples = [{**sample, **segments} for sample in SAMPLES]
        inputs = {**INPUTS, "segment_ids": segments["segment_ids"][:8]}
        small = full_int8(data, samples)
        expected, _ = run(tmp_path, data, inputs)
        received, _ = run(tmp_path, small, inputs)
        assert worst(expected, received, INPUTS["padding_mask"]) >= self.LIMIT
        assert len(small) < len(data)
        graph = Graph(small)
        products = {"BATCH_MATMUL", "FULLY_CONNECTED", "GELU", "SOFTMAX"}
        assert products <= names_of(graph, "INT8")
        assert not products & names_of(graph, "FLOAT32")
        assert {"ADD", "MEAN", "MUL", "RSQRT"} <= names_of(graph, "INT16")
        assert not {"ADD", "RSQRT", "SOFTMAX", "GATHER"} & names_of(graph, "FLOAT32")

    def test_the_mean_of_a_short_text_has_steps_of_its_own(self, tmp_path):
        data = to_bytes(tmp_path, common.embedder(hidden_dim=64, activation="gelu"))
        segments = {"segment_ids": np.zeros((32, 16), "int32")}
        ids = {"token_ids": SAMPLES[0]["token_ids"] % 20}
        small = full_int8(data, [{**SAMPLES[0], **ids, **segments}])
        inputs = {
            "token_ids": INPUTS["token_ids"] % 20,
            "padding_mask": (np.arange(16) < 2).astype("int32")[None].repeat(8, axis=0),
            "segment_ids": segments["segment_ids"][:8],
        }
        expected, _ = run(tmp_path, data, inputs)
        received, _ = run(tmp_path, small, inputs)
        assert cosine(expected["embedding"], received["embedding"]).min() >= self.LIMIT
        graph = Graph(small)
        pool = graph.find("BATCH_MATMUL")[-1]
        assert [graph.dtype(tensor) for tensor in (*pool.inputs, *pool.outputs)] == ["INT16"] * 3

    def test_padding_is_not_seen(self, tmp_path):
        data = full_int8(to_bytes(tmp_path, tiny()), SAMPLES)
        hidden = np.where(INPUTS["padding_mask"], INPUTS["token_ids"], 3).astype("int32")
        first, _ = run(tmp_path, data)
        second, _ = run(tmp_path, data, {**INPUTS, "token_ids": hidden})
        # A masked probability is below half a step of int8: exactly 0.
        keep = INPUTS["padding_mask"].astype(bool)
        np.testing.assert_array_equal(
            first["sequence_output"][keep], second["sequence_output"][keep]
        )

    def test_ranges_without_padding_in_samples_hold_padding(self, tmp_path):
        samples = [{**SAMPLES[0], "padding_mask": np.ones((32, 16), "int32")}]
        data = to_bytes(tmp_path, tiny())
        expected, _ = run(tmp_path, data)
        received, _ = run(tmp_path, full_int8(data, samples))
        assert worst(expected, received, INPUTS["padding_mask"]) >= self.LIMIT

    def test_int8_throughout_would_lose_a_stream_with_an_outlier(self, tmp_path):
        model = tiny()
        contract = next(w for w in model.weights if w.shape == (128, 64))
        kernel = keras.ops.convert_to_numpy(contract).copy()
        kernel[:, 5] *= 16
        contract.assign(kernel)
        data = to_bytes(tmp_path, model)
        expected, _ = run(tmp_path, data)
        received, _ = run(tmp_path, full_int8(data, SAMPLES))
        assert worst(expected, received, INPUTS["padding_mask"]) >= 0.99
        graph = Graph(data)
        names = ("ADD", "BATCH_MATMUL", "FULLY_CONNECTED", "MEAN", "MUL", "RSQRT", "SUB")
        floats = [op for op in graph.find(*names) if graph.dtype(op.outputs[0]) == "FLOAT32"]
        ranges = calibration.ranges(graph, tensors_between(graph, floats), SAMPLES)
        quantize_operators(graph, floats, ranges)
        plain, _ = run(tmp_path, graph.to_bytes())
        assert worst(expected, plain, INPUTS["padding_mask"]) < 0.95

    def test_an_image_model(self, tmp_path):
        images = [{"image": RNG.standard_normal((16, 16, 16, 3), dtype="float32")}]
        data = to_bytes(tmp_path, common.plain_keras_model())
        expected, _ = run(tmp_path, data, images[0])
        small = full_int8(data, images)
        received, _ = run(tmp_path, small, images[0])
        assert cosine(expected["logits"], received["logits"]).min() >= 0.99
        assert {"CONV_2D", "FULLY_CONNECTED"} <= names_of(Graph(small), "INT8")

    def test_open_shapes_are_refused(self, tmp_path):
        data = to_bytes(tmp_path, tiny(), sequence_length=None)
        with pytest.raises(ExportError, match="fixed shapes only.*sequence_length"):
            full_int8(data, SAMPLES)


class TestMixedInt8:
    @pytest.mark.parametrize("length", [16, None])
    @pytest.mark.parametrize("attention", [True, False])
    @pytest.mark.parametrize("feed_forward", [True, False])
    def test_one_partition_and_close(self, tmp_path, length, attention, feed_forward):
        data = to_bytes(tmp_path, tiny(), sequence_length=length)
        expected, _ = run(tmp_path, data)
        small = mixed_int8.mixed_int8(data, SAMPLES, attention, feed_forward)
        received, partitions = run(tmp_path, small)
        assert partitions == 1 and len(small) < len(data)
        # Steps of 0.4 % of a tensor's range, in projections alone of a row's.
        assert worst(expected, received, INPUTS["padding_mask"]) >= 0.985
        graph = Graph(small)
        integers = names_of(graph, "INT8")
        assert ("BATCH_MATMUL" in integers) is attention
        assert ("FULLY_CONNECTED" in integers) is feed_forward
        assert {"ADD", "RSQRT", "SOFTMAX"} <= names_of(graph, "FLOAT32")

    def test_any_length(self, tmp_path):
        data = to_bytes(tmp_path, tiny(), sequence_length=None)
        small = mixed_int8.mixed_int8(data, SAMPLES)
        for length in (3, 29):
            ids = RNG.integers(1, 100, (4, length), dtype="int32")
            inputs = {"token_ids": ids, "padding_mask": np.ones((4, length), "int32")}
            expected, _ = run(tmp_path, data, inputs)
            received, partitions = run(tmp_path, small, inputs)
            assert partitions == 1
            assert worst(expected, received) >= 0.985

    def test_even_attention_over_a_long_row(self, tmp_path):
        """400 probabilities of 0.0025 each are 0 in steps of 1 / 255."""
        model = tiny(max_sequence_length=400, num_layers=1)
        for weight in model.weights:
            if "query" in weight.path:
                weight.assign(0.01 * weight)
        data = to_bytes(tmp_path, model, sequence_length=None)
        ids = RNG.integers(1, 100, (4, 400), dtype="int32")
        inputs = {"token_ids": ids, "padding_mask": np.ones((4, 400), "int32")}
        expected, _ = run(tmp_path, data, inputs)
        small = mixed_int8.mixed_int8(data, [inputs], feed_forward=False)
        received, _ = run(tmp_path, small, inputs)
        assert worst(expected, received) >= 0.99
        graph = Graph(data)
        found = mixed_int8.find_attentions(graph)
        selected = [x for one in found for x in (*one.moves, one.product)]
        ranges = calibration.ranges(graph, tensors_between(graph, selected), [inputs])
        ranges |= {int(one.softmax.outputs[0]): (0.0, 1.0) for one in found}
        quantize_operators(graph, selected, ranges)
        plain, _ = run(tmp_path, graph.to_bytes(), inputs)
        assert worst(expected, plain) < worst(expected, received)

    def test_a_model_without_these_parts_is_dynamic_int8(self, tmp_path):
        data = to_bytes(tmp_path, common.sequential())
        small = mixed_int8.mixed_int8(data, [{"input_0": RNG.standard_normal((4, 40)).astype("f")}])
        assert len(small) < len(data)
        assert "FULLY_CONNECTED" in names_of(Graph(small), "FLOAT32")


@pytest.mark.parametrize("quantize", [full_int8, mixed_int8.mixed_int8])
class TestErrors:
    def test_no_model(self, quantize):
        with pytest.raises(ExportError, match="no TFLite model"):
            quantize(b"no model at all", SAMPLES)

    def test_no_samples(self, tmp_path, quantize):
        with pytest.raises(ExportError, match="Received: none. Pass sample inputs"):
            quantize(to_bytes(tmp_path, tiny()), [])

    def test_no_weights(self, tmp_path, quantize):
        inputs = keras.Input((4,), name="x")
        model = common.randomize(keras.Model(inputs, keras.layers.Dense(3)(inputs)))
        with pytest.raises(ExportError, match="quantization=None"):
            quantize(to_bytes(tmp_path, model), [{"x": np.ones((1, 4), "float32")}])


def test_ranges_are_those_of_the_tensors(tmp_path):
    graph = Graph(to_bytes(tmp_path, tiny()))
    hidden = [int(op.outputs[0]) for op in graph.find("GELU")]
    scores = [int(op.outputs[0]) for op in graph.find("SOFTMAX")]
    recorded = calibration.record(graph, hidden, SAMPLES)
    found = calibration.ranges(graph, [*hidden, *scores], SAMPLES)
    for tensor in hidden:
        assert found[tensor] == (recorded[tensor].min(), recorded[tensor].max())
    peaks = calibration.smallest_peaks(graph, scores, SAMPLES)
    for tensor in scores:
        low, high = found[tensor]
        assert 0 <= low and 1 / 16 <= peaks[tensor] <= high <= 1


def test_products_that_xnnpack_computes_as_zeros_are_refused(tmp_path):
    graph = Graph(to_bytes(tmp_path, tiny()))
    product = graph.find("BATCH_MATMUL")[0]
    values = int(product.inputs[1])
    rounded = graph.add_tensor("rounded", graph.shape(values), "INT8")
    graph.tensors[rounded].quantization = graph.quantization(0.1, 0)
    graph.replace(product, graph.make_operator("QUANTIZE", [values], [rounded]), product)
    product.inputs = np.array([product.inputs[0], rounded], "int32")
    path = tmp_path / "hybrid.tflite"
    path.write_bytes(graph.to_bytes())
    assert list(read_contents(path).forbidden) == [HYBRID_PRODUCT]
