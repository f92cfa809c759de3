"""Timing files: what runs, in which order, with which inputs, and what is made of the seconds."""

import json
import sys

import numpy as np
import pytest

from keras_addnorm import cli, export
from keras_addnorm.export.timing.bench import interleave, ratio
from keras_addnorm.export.timing.inputs import choose, make_inputs, read_signatures
from keras_addnorm.export.timing.timed import TimedModel, resident_memory
from keras_addnorm.export.timing.views import check_plot, labels
from tests.export import common

FAST = {"runs": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tiny exported files by name."""
    folder = tmp_path_factory.mktemp("files")
    models = {
        "open": (common.embedder(position="learned"), None),
        "fixed": (common.embedder(position="learned"), 16),
        "image": (common.plain_keras_model(), 16),
    }
    paths = {}
    for name, (model, length) in models.items():
        paths[name] = str(folder / f"{name}.tflite")
        export.to_tflite(model, paths[name], sequence_length=length, verify=False)
    paths["two"] = str(folder / "two.tflite")
    (folder / "two.tflite").write_bytes(two_signatures(folder))
    paths["bare"] = str(folder / "bare.tflite")
    (folder / "bare.tflite").write_bytes(without_signatures(paths["fixed"]))
    return paths


def two_signatures(folder):
    """A file that looks up and averages rows of a table, at lengths 8 and 16."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            table = np.random.default_rng(0).normal(size=(50, 32))
            self.table = tf.Variable(table.astype("float32"))

        @tf.function
        def average(self, ids):
            return {"mean": tf.reduce_mean(tf.gather(self.table, ids), axis=1)}

    module = Module()
    specs = {f"length_{n}": tf.TensorSpec((1, n), tf.int32, name="ids") for n in (8, 16)}
    functions = {key: module.average.get_concrete_function(s) for key, s in specs.items()}
    tf.saved_model.save(module, str(folder / "two"), signatures=functions)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "two"), signature_keys=list(specs)
    )
    return converter.convert()


def without_signatures(path):
    """The same file, without the names of its inputs."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    with open(path, "rb") as file:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read()))
    model.signatureDefs = []
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_every_round_runs_every_function_and_times_its_second_run():
    ran = []
    ticks = iter([0, 1, 0, 3, 10, 12, 10, 15])
    functions = {name: (lambda name=name: ran.append(name)) for name in "ab"}
    seconds = interleave(functions, 2, clock=lambda: next(ticks))
    assert ran == list("aabb" * 2)
    assert seconds == {"a": [1, 2], "b": [3, 5]}


def test_the_ratio_is_the_median_of_ratios():
    assert ratio([2.0, 4.0, 9.0], [1.0, 4.0, 3.0]) == 2.0  # that of the medians is 4/3
    assert ratio([1.0, 1.0], [2.0, 4.0]) == 0.375


def test_files_of_any_length_of_one_and_of_none(files):
    paths = [files["open"], files["fixed"], files["image"]]
    report = export.bench(paths, against=files["open"], lengths=(16, 8), padding=0.5, **FAST)
    found = [(t.file, t.length) for t in report.timings]
    expected = [(files["image"], None), (files["open"], 8)]
    assert found == [*expected, (files["open"], 16), (files["fixed"], 16)]
    for timing in report.timings:
        assert timing.partitions == 1 and timing.profile is None
        assert 0 < timing.median_ms <= timing.p90_ms
        assert timing.load_ms > 0 and timing.first_ms > 0
        if resident_memory() is not None:
            assert timing.rss_after > timing.rss_before > 1e6
    ratios = [t.ratio for t in report.timings]
    assert ratios[:3] == [None, 1.0, 1.0] and ratios[3] > 0
    assert report.bytes.keys() == set(paths)
    assert json.loads(report.to_json())["timings"][0]["length"] is None


def test_several_signatures_run_by_the_shortest_that_fits(files):
    signatures = read_signatures(files["two"])
    chosen = [(length, s.key) for length, s in choose(signatures, [5, 8, 9, 16, 17])]
    expected = [(5, "length_8"), (8, "length_8"), (9, "length_16"), (16, "length_16")]
    assert chosen == expected
    report = export.bench([files["two"]], lengths=(5, 16), profile=True, **FAST)
    assert [(t.length, t.signature) for t in report.timings] == [expected[0], expected[3]]
    assert all(t.profile["operators"][0]["count"] for t in report.timings)
    with pytest.raises(export.ExportError, match="at most 16. Received: lengths=.17,.*Pass a"):
        export.bench([files["two"]], lengths=(17,))


def test_a_file_without_signatures(files):
    (signature,) = read_signatures(files["bare"])
    assert signature.key is None and signature.length == 16
    report = export.bench([files["bare"]], profile=True, **FAST)
    assert [(t.length, t.signature) for t in report.timings] == [(16, None)]


def test_the_profile_counts_the_operators_that_xnnpack_runs(files):
    report = export.bench([files["open"]], lengths=(8,), profile=True, **FAST)
    (timing,) = report.timings
    *operators, between = timing.profile["operators"]
    counts = {row["name"].split(" (")[0]: 0 for row in operators}
    for row in operators:
        counts[row["name"].split(" (")[0]] += row["count"]
    # Two layers of six dense layers, and of two products of the attention.
    assert counts["Fully Connected"] == 12 and counts["Batch Matrix Multiply"] >= 4
    assert counts["Softmax"] == 2 and counts["GATHER"] >= 1
    assert between["name"] == "between operators" and between["count"] is None
    assert timing.profile["seconds"] > 0 and all(row["seconds"] >= 0 for row in operators)
    seconds = [row["seconds"] for row in operators]
    assert seconds == sorted(seconds, reverse=True)


def test_inputs_are_ids_of_the_table_and_a_mask(files):
    (signature,) = read_signatures(files["open"])
    rows = {spec.name: spec.rows for spec in signature.inputs}
    assert rows == {"token_ids": 100, "padding_mask": None, "segment_ids": 2}
    inputs = make_inputs(signature, 32, padding=0.75)
    assert {name: (v.shape, v.dtype.name) for name, v in inputs.items()} == {
        name: ((1, 32), "int32") for name in rows
    }
    assert inputs["token_ids"].min() >= 0 and 50 < inputs["token_ids"].max() < 100
    assert inputs["padding_mask"].tolist() == [[1] * 8 + [0] * 24]
    assert make_inputs(signature, 32)["padding_mask"].all()
    # A signature that is longer than the sequence: the rest is padding.
    (fixed,) = read_signatures(files["fixed"])
    assert make_inputs(fixed, 8)["padding_mask"].tolist() == [[1] * 8 + [0] * 8]
    (image,) = read_signatures(files["image"])
    (pixels,) = make_inputs(image, None).values()
    assert pixels.shape == (1, 16, 16, 3) and pixels.dtype == "float32" and pixels.std() > 0.5


def test_the_timed_model_computes_what_the_interpreter_computes(files):
    """Resizing and setting inputs by name reach the right tensors."""
    from ai_edge_litert.interpreter import Interpreter

    (signature,) = read_signatures(files["open"])
    inputs = make_inputs(signature, 12, padding=0.5)
    model = TimedModel(files["open"], inputs, signature.key)
    model()
    index = model._interpreter.get_output_details()[0]["index"]
    runner = Interpreter(model_path=files["open"]).get_signature_runner(signature.key)
    expected = runner(**inputs)["embedding"]
    np.testing.assert_array_equal(model._interpreter.get_tensor(index), expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"lengths": (0,)}, "`lengths` must be .*Received: lengths.0.=0. Pass 1"),
        ({"lengths": ()}, "`lengths` must hold a length.*Pass for instance"),
        ({"runs": 0}, "`runs` must be positive.*Received: runs=0"),
        ({"num_threads": 1.5}, "`num_threads` must be positive.*num_threads=1.5"),
        ({"padding": 1.0}, "`padding` is a share.*Received: padding=1.0. Pass"),
    ],
    ids=str,
)
def test_arguments_are_checked(files, arguments, message):
    with pytest.raises(ValueError, match=message):
        export.bench([files["open"]], **arguments)


def test_files_that_do_not_run(files, tmp_path):
    with pytest.raises(export.ExportError, match="There is no file nowhere.tflite. Check the path"):
        export.bench(["nowhere.tflite"])
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"nothing of the sort")
    with pytest.raises(export.ExportError, match="is no TFLite model"):
        export.bench([broken])
    with pytest.raises(export.ExportError, match="cannot run .*open.tflite at length 64: .*Check"):
        export.bench([files["open"]], lengths=(64,))  # It has 32 positions.


def test_names_of_files_differ(tmp_path):
    names = labels([str(tmp_path / "a" / "m.tflite"), str(tmp_path / "b" / "m.tflite")])
    assert list(names.values()) == ["a/m.tflite", "b/m.tflite"]
    assert list(labels([str(tmp_path / "m.tflite")]).values()) == ["m.tflite"]


def test_a_plot_needs_an_ending_and_matplotlib(monkeypatch):
    with pytest.raises(ValueError, match="A plot is a .png, .svg or .pdf file.*Correct the ending"):
        check_plot("out.txt")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="Run `pip install matplotlib`"):
        check_plot("out.png")


def run(capfd, *arguments):
    capfd.readouterr()
    code = cli.main(["bench", *map(str, arguments)])
    return code, *capfd.readouterr()


def test_the_command(capfd, files, tmp_path):
    plot = tmp_path / "out.png"
    common_arguments = (files["open"], "--lengths", "8, 16", "--runs", 2)
    code, out, err = run(
        capfd, *common_arguments, "--against", files["fixed"], "--profile", "--plot", plot
    )
    assert code == 0, err
    assert "/ fixed.tflite" in out and "between operators" in out and "RSS before" in out
    assert "... timing at length 16" in err.splitlines()
    assert plot.read_bytes()[:4] == b"\x89PNG"

    code, out, _ = run(capfd, *common_arguments, "--json")
    facts = json.loads(out)
    assert code == 0 and [t["length"] for t in facts["timings"]] == [8, 16]
    assert facts["runs"] == 2 and facts["against"] is None

    for arguments, part in (
        ((files["open"], "--plot", plot), "exists already"),
        ((files["open"], "--plot", "out"), "Correct the ending"),
        ((files["open"], "--lengths", "8,x"), "--lengths must be positive whole numbers"),
        (("nowhere.tflite",), "There is no file nowhere.tflite"),
    ):
        code, out, err = run(capfd, *arguments)
        (line,) = [line for line in err.splitlines() if not line.startswith("... ")]
        assert code == 1 and out == "" and line.startswith("error: ") and part in line
