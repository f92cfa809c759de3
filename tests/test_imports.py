"""What may import what, read from the source; what `import keras_addnorm` loads, from a run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_addnorm

PACKAGE = Path(keras_addnorm.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
OURS = "keras_addnorm"
STANDARD = sys.stdlib_module_names


def imports(source, module, is_package=False, top_level_only=False):
    """The modules that a module's source imports, as full names.

    `from a import b` counts as an import of `a` and of `a.b`, since `b` may be a module. With
    `top_level_only`, imports inside functions are left out.
    """
    found = set()

    def visit(node):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        in_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if not (top_level_only and in_function):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(source))
    return found


def imports_of(module, **kwargs):
    path = MODULES[module]
    return imports(path.read_text("utf-8"), module, path.name == "__init__.py", **kwargs)


def is_below(name, *roots):
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def modules_of(part):
    return [name for name in MODULES if is_below(name, f"{OURS}.{part}")]


def test_the_reader_of_imports():
    source = "import a.b\nfrom . import c\nfrom ..d import e\ndef f():\n    from g import h\n"
    assert imports(source, "p.q.r") == {"a.b", "p.q", "p.q.c", "p.d", "p.d.e", "g", "g.h"}
    assert imports(source, "p.q", is_package=True) >= {"p.q.c", "p.d.e"}
    assert imports(source, "p.q.r", top_level_only=True).isdisjoint({"g", "g.h"})
    assert "keras" in imports_of("keras_addnorm.layers.add_norm")
    assert modules_of("layers") and modules_of("models")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_torch_or_transformers(module):
    assert not [name for name in imports_of(module) if is_below(name, "torch", "transformers")]


@pytest.mark.parametrize("module", modules_of("layers"))
def test_layers_import_keras_numpy_and_layers(module):
    ours = [name for name in imports_of(module) if is_below(name, OURS)]
    assert [n for n in ours if n != OURS and not is_below(n, f"{OURS}.layers")] == []
    others = {name.split(".")[0] for name in imports_of(module)} - {OURS}
    assert others <= {"keras", "numpy", *STANDARD}


@pytest.mark.parametrize("module", modules_of("models"))
def test_models_import_only_layers_of_this_package(module):
    ours = [name for name in imports_of(module) if is_below(name, OURS)]
    allowed = (f"{OURS}.layers", f"{OURS}.models")
    assert [n for n in ours if n != OURS and not is_below(n, *allowed)] == []
    others = {name.split(".")[0] for name in imports_of(module)} - {OURS}
    # TensorFlow only to call a tokenizer from its graphs; both inside functions, see below.
    assert others <= {"keras", "keras_hub", "numpy", "tensorflow", "tokenizers", *STANDARD}


@pytest.mark.parametrize(
    ("part", "refused"),
    [("zoo", ("export", "cli")), ("export", ("zoo", "cli"))],
)
def test_zoo_and_export_do_not_know_each_other(part, refused):
    assert modules_of(part)
    refused = [f"{OURS}.{name}" for name in refused]
    for module in modules_of(part):
        assert [name for name in imports_of(module) if is_below(name, *refused)] == [], module


@pytest.mark.parametrize("module", modules_of("text"))
def test_text_imports_no_keras_and_nothing_that_does(module):
    ours = [name for name in imports_of(module) if is_below(name, OURS)]
    allowed = (f"{OURS}.text",)
    assert [n for n in ours if n != OURS and not is_below(n, *allowed)] == []
    others = {name.split(".")[0] for name in imports_of(module)} - {OURS}
    assert others <= {"ai_edge_litert", "numpy", "tokenizers", *STANDARD}


FRESH_PROCESS = """
import sys
import keras, keras_hub
before = set(sys.modules)
import keras_addnorm
print("all", *sys.modules, sep="\\t")
print("new", *set(sys.modules) - before, sep="\\t")
"""


@pytest.fixture(scope="module")
def loaded():
    """Modules in a fresh process: `all` of them, and the `new` ones that only this package loads.

    Keras and KerasHub come first: what they load for themselves is not for this package to say.
    """
    run = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    rows = (line.split("\t") for line in run.stdout.splitlines())
    return {row[0]: set(row[1:]) for row in rows if row[0] in ("all", "new")}


@pytest.mark.parametrize(
    "name", ["safetensors", "ai_edge_litert", "keras_addnorm.zoo", "keras_addnorm.export"]
)
def test_import_of_the_package_does_not_load(loaded, name):
    assert "keras_addnorm.layers" in loaded["all"]
    assert name not in loaded["all"]


def test_import_of_the_package_loads_little_beside_itself(loaded):
    new = {name for name in loaded["new"] if not is_below(name, OURS)}
    assert {name.split(".")[0] for name in new} <= STANDARD
    assert "keras_addnorm.models.text_embedder" in loaded["new"]


def test_modules_loaded_by_the_package_import_nothing_heavy(loaded):
    heavy = ("tensorflow", "tokenizers", "sentencepiece", "safetensors", "ai_edge_litert")
    ours = sorted(loaded["all"] & set(MODULES))
    assert OURS in ours and "keras_addnorm.layers.add_norm" in ours
    for module in ours:
        top = imports_of(module, top_level_only=True)
        assert [name for name in top if is_below(name, *heavy)] == [], module
