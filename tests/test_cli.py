"""The command line, run in this process, and once as the installed command."""

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_addnorm import cli, export, zoo
from tests.export import common
from tests.zoo.common import DATA, copy_checkpoint, make_sentence_transformer


@pytest.fixture
def run(capfd):
    """Runs a command; returns (exit code, standard output, standard error)."""

    def run(*arguments):
        capfd.readouterr()  # What the test itself printed before.
        code = cli.main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def assert_error(result, *parts):
    """One readable line on standard error, behind the lines of the steps, and a non-zero code."""
    code, out, err = result
    steps = [line for line in err.splitlines() if line.startswith("... ")]
    (line,) = [line for line in err.splitlines() if line not in steps]
    assert code != 0 and out == ""
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@pytest.fixture(scope="module")
def embedder_folder(tmp_path_factory):
    return make_sentence_transformer(copy_checkpoint(tmp_path_factory.mktemp("hf")))


def test_export_verify_embed_info(run, tmp_path, embedder_folder):
    path = tmp_path / "m.tflite"
    code, out, err = run("export", embedder_folder, path, "--sequence-length", "16")
    assert code == 0 and path.is_file()
    assert "verified embedding" in out and "XNNPACK partitions │ 1" in out
    assert "... comparing it with the Keras model" in err.splitlines()

    code, out, _ = run("verify", path, "--against", embedder_folder)
    assert code == 0 and "is the same model" in out

    code, out, _ = run("embed", path, "a cat sits", "a cat sits", "dog!", "a cat " * 20)
    assert code == 0 and "1.000" in out
    assert "Text 4 is longer than the model takes and was cut." in out

    code, out, _ = run("info", path)
    assert code == 0 and "token_ids: int32 (1, 16)" in out and "FULLY_CONNECTED" in out

    assert_error(run("export", embedder_folder, path), "exists already", "--overwrite")
    assert_error(run("verify", path, "--against", DATA / "bert_plain"), "returns ['embedding']")


def test_bundle(run, tmp_path, embedder_folder):
    folder = tmp_path / "b"
    options = ("--lengths", "8,16", "--license", "MIT", "--quantization", "float32")
    code, out, _ = run("bundle", embedder_folder, folder, *options)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert code == 0 and "verified embedding" in out
    assert manifest["model"]["quantization"] == "float32" and manifest["license"] == "MIT"
    assert [s["length"] for s in manifest["model"]["signatures"]] == [8, 16]
    code, out, _ = run("embed", folder, "a cat sits", "a cat sits", "a cat " * 20)
    assert code == 0 and "1.000" in out
    assert "Text 3 is longer than the model takes and was cut." in out
    assert_error(run("bundle", embedder_folder, folder), "exists already", "--overwrite")
    again = ("bundle", embedder_folder, folder, "--overwrite", "--task", "classify")
    assert_error(run(*again), "classify")
    assert json.loads((folder / "manifest.json").read_text()) == manifest


def test_metadata(run, tmp_path, embedder_folder):
    path = tmp_path / "m.tflite"
    field = ("--metadata-field", "license=Apache-2.0", "--metadata-field", "author=A = B")
    code, _, err = run("export", embedder_folder, path, "--metadata", *field)
    assert code == 0, err
    code, out, _ = run("info", path)
    assert code == 0 and "metadata: license" in out and "Apache-2.0" in out and "A = B" in out
    assert "BertTokenizer" in out and "vocab.txt 0.00 MB" in out
    facts = json.loads(run("info", path, "--json")[1])["metadata"]
    assert sorted(facts["inputs"]) == ["ids", "mask", "segment_ids"]
    assert run("embed", path, "a cat", "a dog")[0] == 0
    assert run("verify", path, "--against", embedder_folder)[0] == 0


def test_a_saved_model_of_any_length(run, tmp_path, embedder_folder):
    path = tmp_path / "saved"
    assert run("export", embedder_folder, path)[0] == 0
    assert run("verify", path, "--against", embedder_folder)[0] == 0
    code, out, _ = run("info", path)
    assert code == 0 and "token_ids: int32 (any, any)" in out
    code, out, _ = run("embed", path, "a cat", "a dog runs")
    assert code == 0 and "cosine" in out


@pytest.mark.parametrize("kind", ["keras file", "preset", "task preset"])
def test_sources_of_keras(run, tmp_path, kind):
    model = common.encoder() if kind == "preset" else common.embedder()
    source = tmp_path / ("m.keras" if kind == "keras file" else "preset")
    model.save(source) if kind == "keras file" else model.save_to_preset(str(source))
    code, out, _ = run("info", source)
    assert code == 0 and type(model).__name__ in out and f"{model.count_params():,}" in out
    out_path = tmp_path / "m.tflite"
    arguments = ("--sequence-length", "any", "--quantization", "dynamic_int8")
    code, out, err = run("export", source, out_path, *arguments)
    assert code == 0, err
    assert export.verify_file(model, out_path)[0].name == "dynamic_int8"


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (("export", "nowhere", "m.tflite"), ("'nowhere'", "Check the path")),
        (("export", "minilm", "m.tflite", "--quantization", "int3"), ("'dynamic_int8'", "'int3'")),
        (("export", "minilm", "m", "--quantization", "float16"), ("A SavedModel is float32",)),
        (("export", "minilm", "m", "--metadata"), ("--metadata is an option of a .tflite",)),
        (("export", "minilm", "m.tflite", "--metadata-field", "name=x"), ("without --metadata",)),
        (
            ("export", "minilm", "m.tflite", "--metadata", "--metadata-field", "licence=x"),
            ("name, description, version, author, license", "'licence'"),
        ),
        (("export", "minilm", "m.tflit"), ("OUT ends in .tflite", "m.tflit")),
        (("bundle", "minilm", "b", "--task", "answer"), ("--task is one of auto, embed",)),
        (("bundle", "m.keras", "b", "--task", "embed"), ("has the task it was saved with",)),
        (("bundle", "minilm", "b", "--quantization", "int3"), ("'dynamic_int8'", "'int3'")),
        (("info", "no[/x]where:cat:.keras"), ("no[/x]where:cat:.keras",)),
        (("export", "minilm", "m.tflite", "--sequence-length", "-3"), ("positive whole number",)),
        (("info", "nowhere.keras"), ("no file nowhere.keras",)),
        (("info", "nowhere.tflite"), ("nowhere.tflite",)),
        (("verify", "nowhere.tflite", "--against", DATA / "bert_plain"), ("does not exist",)),
        (("embed", "nowhere.tflite", "one"), ("two texts or more",)),
        (("embed", "nowhere.tflite", "one", "two"), ("does not exist",)),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_errors_are_one_line(run, arguments, parts):
    assert_error(run(*arguments), *parts)


def test_a_broken_keras_file(run, tmp_path):
    (tmp_path / "m.keras").write_bytes(b"no zip")
    assert_error(run("info", tmp_path / "m.keras"), "no Keras model file")


def test_embedding_needs_an_embedder_and_its_vocabulary(run, tmp_path):
    path = tmp_path / "m.tflite"
    export.to_tflite(common.encoder(), path, sequence_length=8)
    assert_error(run("embed", path, "a", "b"), "m.tflite.tokenizer.json", "keep the three together")
    export.to_tflite(common.embedder(), tmp_path / "e.tflite", sequence_length=8)
    (tmp_path / "e.tflite.tokenizer.json").rename(path.with_name("m.tflite.tokenizer.json"))
    (tmp_path / "e.tflite.report.json").rename(path.with_name("m.tflite.report.json"))
    assert_error(run("embed", path, "a", "b"), "does not embed texts", "sequence_output")
    path.with_name("m.tflite.report.json").write_text("{}")
    assert_error(run("embed", path, "a", "b"), "is broken")


def test_wrong_arguments_are_one_line(capfd):
    for arguments in (["explode"], ["export", "only-one"], []):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        assert len(capfd.readouterr().err.splitlines()) == 1


def test_the_installed_command_prints_no_log_lines():
    command = [f"{sys.prefix}/bin/keras-addnorm", "info", str(DATA / "bert_plain")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "TransformerEncoder" in done.stdout
    assert done.stderr.splitlines()[:2] == ["... starting TensorFlow", f"... loading {command[-1]}"]
    assert all(line.startswith("... ") for line in done.stderr.splitlines())


def test_list(run):
    code, out, _ = run("list", "minilm*")
    assert code == 0 and "Apache-2.0" in out and "2002.10957" in out
    code, out, _ = run("list", "minilm*", "--family", "bert", "--json")
    rows = json.loads(out)
    assert code == 0 and {row["family"] for row in rows} == {"bert"}
    assert rows[0]["parameters"] > 1e7
    assert_error(run("list", "no_such_*"), "No preset is called 'no_such_*'")
    assert_error(run("list", "--family", "gpt"), "`family` must be one of")


def test_info_of_a_source(run):
    code, out, err = run("info", DATA / "bert_plain")
    assert code == 0 and "layer_*_attention" in out and "embedding share" in out
    assert "... counting operations at length 32" in err.splitlines()
    code, out, _ = run("info", DATA / "bert_plain", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["parameters"] == sum(facts["parts"].values())
    assert sorted(facts["flops"]) == ["128", "32", "512"]


def test_info_of_a_file_as_json(run, tmp_path, embedder_folder):
    path = tmp_path / "m.tflite"
    run("export", embedder_folder, path, "--sequence-length", "16")
    code, out, _ = run("info", path, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["bytes"] == path.stat().st_size
    assert facts["inputs"][0]["shape"] == [1, 16]


@pytest.mark.parametrize("out", ["m.keras", "preset"])
def test_import(run, tmp_path, embedder_folder, out):
    code, text, err = run("import", embedder_folder, tmp_path / out, "--json")
    facts = json.loads(text)
    assert code == 0 and facts["class"] == "TextEmbedder"
    assert f"... importing {embedder_folder}" in err.splitlines()
    ours, theirs = zoo.load(tmp_path / out), zoo.load(embedder_folder)
    texts = ["a cat sits", "dog!"]
    np.testing.assert_array_equal(ours.encode_text(texts), theirs.encode_text(texts))
    assert_error(run("import", embedder_folder, tmp_path / out), "exists already", "--overwrite")
    code, text, _ = run(
        "import", embedder_folder, tmp_path / out, "--overwrite", "--task", "encoder"
    )
    assert code == 0 and "TransformerEncoder" in text
    assert_error(run("import", embedder_folder, tmp_path / "n", "--task", "x"), "--task is one of")


def test_import_for_another_image_size(run, tmp_path):
    source, out = DATA / "dinov2_plain", tmp_path / "m.keras"
    code, text, _ = run("import", source, out, "--image-size", "8")
    assert code == 0 and "ImageEncoder" in text
    assert zoo.load(out).image_shape == (8, 8, 3)
    again = ("import", out, tmp_path / "n.keras", "--image-size", "8")
    assert_error(run(*again), "has the image size it was saved with", "Leave it out")


@pytest.mark.parametrize("command", ["export", "bundle"])
def test_the_help_names_every_recipe(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in export.RECIPES)
