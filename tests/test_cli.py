"""The command line, run in this process, and once as the installed command."""

import subprocess
import sys

import pytest

from keras_addnorm import cli, export
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
        (("export", "minilm", "m.tflit"), ("OUT ends in .tflite", "m.tflit")),
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
    assert_error(run("embed", path, "a", "b"), "m.tflite.vocab.txt", "keep the three together")
    export.to_tflite(common.embedder(), tmp_path / "e.tflite", sequence_length=8)
    (tmp_path / "e.tflite.vocab.txt").rename(path.with_name("m.tflite.vocab.txt"))
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
    assert done.stderr.splitlines() == ["... starting TensorFlow", f"... loading {command[-1]}"]
