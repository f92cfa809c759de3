"""What the README and the examples say and show is so."""

import importlib.util
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys

import keras_hub
import pytest

from keras_addnorm.layers.norms import NORMS
from keras_addnorm.layers.position_encoding import POSITIONS
from keras_addnorm.models import RESIDUALS
from keras_addnorm.models.blocks import ATTENTION_POSITIONS
from keras_addnorm.zoo import FAMILIES
from keras_addnorm.zoo.tasks import TASKS
from tests.zoo.common import DATA, needs_weights

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# beam_embed.py wants Apache Beam; tests/clients runs it.
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {ROOT / "examples" / "beam_embed.py"})


def load_script(path):
    sys.path.insert(0, str(path.parent))  # as when the script is run
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def test_the_table_is_made_from_the_committed_results():
    script = load_script(ROOT / "benchmarks" / "minilm.py")
    results = json.loads(script.RESULTS.read_text())
    assert len(results["rows"]) == 5 and results["sentences"] == 100
    between = README.split(script.MARKS[0])[1].split(script.MARKS[1])[0]
    assert between.strip() == script.markdown_table(results)


def test_the_table_of_recipes_names_them_all_and_what_they_look_at():
    from keras_addnorm.export import RECIPES

    between = README.split("<!-- recipes: checked by tests/test_docs.py -->")[1]
    rows = between.split("<!-- recipes: end -->")[0].strip().splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(c[0].strip("`"), c[3]) for c in cells] == [
        (recipe.name, recipe.calibration) for recipe in RECIPES.values()
    ]


def test_the_table_of_media_pipes_tokenizer_has_the_classes_that_its_test_has():
    from tests.clients.test_mediapipe import DIFFERENT, STAYS

    between = README.split("<!-- mediapipe: checked by tests/test_docs.py -->")[1]
    rows = between.split("<!-- mediapipe: end -->")[0].strip().splitlines()[2:]
    kinds = [row.split("|")[1].strip() for row in rows]
    assert kinds == list(DIFFERENT) and kinds[-4:] == list(STAYS)


def test_the_table_of_training_speed_is_made_from_the_committed_results():
    script = load_script(ROOT / "benchmarks" / "train.py")
    results = json.loads(script.RESULTS.read_text())
    assert set(results["backends"]) == {"tensorflow", "jax"}
    between = README.split(script.MARKS[0])[1].split(script.MARKS[1])[0]
    assert between.strip() == script.markdown_table(results)


def test_the_tables_of_litert_are_made_from_the_committed_results():
    script = load_script(ROOT / "benchmarks" / "litert.py")
    results = json.loads(script.RESULTS.read_text()) if script.RESULTS.is_file() else {}
    between = README.split(script.MARKS[0])[1].split(script.MARKS[1])[0]
    assert between.strip() == script.markdown_tables(results)


def test_the_table_of_text_libraries_is_made_from_the_committed_results():
    script = load_script(ROOT / "benchmarks" / "text.py")
    results = json.loads(script.RESULTS.read_text())
    between = README.split(script.MARKS[0])[1].split(script.MARKS[1])[0]
    assert between.strip() == script.markdown_table(results)


def residual_table():
    """The rows of `RESIDUALS` in markdown."""
    head = "| `residual` | carries | stream times | branch times, at first | norm | source |"
    rows = [head, "|---|---|---|---|---|---|"]
    stream = {1.0: "1", (2 * 6) ** 0.25: "(2N)^(1/4)"}
    for name, row in RESIDUALS.items():
        branch = "1" if row.branch_scale is None else f"{row.branch_scale:g}, trained"
        branch += ", a feature each" if row.branch_scale_axis == -1 else ""
        norm = f"{row.norm}, of the branch too" if row.branch_norm else row.norm
        times = stream[row.residual_scale(6)]
        rows.append(f"| `{name}` | {row.carries} | {times} | {branch} | {norm} | {row.source} |")
    return "\n".join(rows)


def test_the_table_of_residual_schemes_is_the_registry():
    start, end = (
        f"<!-- residuals: {words} -->" for words in ("checked by tests/test_docs.py", "end")
    )
    assert README.split(start)[1].split(end)[0].strip() == residual_table()
    for name in (*NORMS, *POSITIONS, *ATTENTION_POSITIONS):
        assert f"`{name}`" in README


def family_table():
    """The rows of `FAMILIES` in markdown."""
    rows = ["| `model_type` | tasks with heads | KerasHub | presets |", "|---|---|---|---|"]
    for name, family in FAMILIES.items():
        tasks = ", ".join(dict.fromkeys(head.task for head in family.heads.values()))
        hub = f"`{family.keras_hub.backbone}`" if family.keras_hub else ""
        tags = sum(len(preset.tags) for preset in family.presets.values())
        numbers = f"{len(family.presets)}, {tags} checkpoints"
        rows.append(f"| `{name}` | {tasks} | {hub} | {numbers} |")
    return "\n".join(rows)


def test_the_table_of_families_is_the_registry():
    start, end = (
        f"<!-- families: {words} -->" for words in ("checked by tests/test_docs.py", "end")
    )
    assert README.split(start)[1].split(end)[0].strip() == family_table()
    for task in TASKS:
        assert task in README


@needs_weights
def test_the_example_of_the_zoo_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DATA / "bert_tokens", "folder", ignore=lambda *_: ["reference.safetensors"])
    code = README.split("## The zoo")[1].split("```python\n")[1].split("```")[0]
    names = {"backbone": keras_hub.models.BertBackbone(20, 1, 2, 8, 12)}
    exec(code.replace('task="auto"', 'task="auto", preprocessor=None'), names)  # noqa: S102
    assert (tmp_path / "minilm_again" / "model.safetensors").is_file()
    assert names["ours"].num_layers == 1
    assert names["small"].count_params() < names["embedder"].count_params()


def test_the_example_of_options_runs_as_it_stands():
    import keras_addnorm

    code = README.split("option of it:")[1].split("```python\n")[1].split("```")[0]
    small = re.sub("num_layers=22", "num_layers=3", code)
    names = {"keras_addnorm": keras_addnorm}
    exec(small, names)  # noqa: S102
    windows = [names["modern"].get_layer(f"layer_{i}_attention").sliding_window for i in range(3)]
    assert windows == [None, 65, 65]
    assert names["vision"].count_params() == 85_798_656


@needs_weights
def test_the_findings_of_lint_are_those_of_the_exported_minilm(tmp_path, capfd):
    from rich.console import Console

    from keras_addnorm import cli, export, zoo
    from keras_addnorm.export.tables import findings_table

    path = tmp_path / "minilm.tflite"
    embedder = zoo.from_hugging_face("minilm", task="embed")
    export.to_tflite(embedder, path, quantization="dynamic_int8")
    warnings = [finding for finding in export.lint_file(path) if finding.severity != "note"]
    console = Console(file=io.StringIO(), width=100)
    console.print(findings_table(path.name, warnings))
    capfd.readouterr()
    assert cli.main(["lint", str(path)]) == 0
    lines = [*console.file.getvalue().splitlines(), capfd.readouterr().out.splitlines()[-1]]
    shown = README.split("<!-- lint: checked by tests/test_docs.py -->\n```text\n")[1]
    assert shown.split("\n```")[0] == "\n".join(line.rstrip() for line in lines)


def test_the_first_example_runs_as_it_stands():
    import keras
    import numpy as np

    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len(code.strip().splitlines()) <= 12
    names = {}
    exec(code, names)  # noqa: S102
    model = names["model"]
    assert isinstance(model, keras.Model)
    ids = np.array([[5, 6, 7, 0, 0], [1, 2, 3, 4, 5]])
    # The mask reaches attention: what padded positions hold does not matter, here their number.
    full, short = model(ids)[0, :3], model(ids[:, :3])[0]
    np.testing.assert_allclose(full, short, atol=1e-5)


def test_files_that_the_readme_names_exist():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)h][^)]*)\)", prose)
    assert "docs/encoder.svg" in links
    for link in links:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_run(tmp_path, path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 100
    done = subprocess.run(
        [sys.executable, path, "--tiny", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "dynamic_int8" in done.stdout and done.stderr.strip() == ""
    assert sorted(p.suffix for p in tmp_path.iterdir()).count(".tflite") == 2
