"""Whatever is imported first, plain Keras finds our classes, and text needs no Keras."""

import pathlib
import subprocess
import sys

import pytest

from keras_addnorm.models import TransformerEncoder
from tests.common import TINY_ENCODER

LOAD = """
import keras
print(type(keras.saving.load_model("encoder.keras")).__name__)
"""

ORDERS = {
    "package, keras": "import keras_addnorm, keras",
    "keras, package": "import keras, keras_addnorm",
    "package, a module of keras": "import keras_addnorm, keras.layers",
    "package, tensorflow": "import keras_addnorm, tensorflow",
    "tensorflow, package": "import tensorflow, keras_addnorm",
    "package, tf.keras": "import keras_addnorm\nimport tensorflow as tf\ntf.keras.layers.Dense",
    "tf.keras, package": "import tensorflow as tf\ntf.keras.layers.Dense\nimport keras_addnorm",
    "package, keras_hub": "import keras_addnorm, keras_hub",
    "layers": "from keras_addnorm.layers import AddNorm",
    "a module of layers": "import keras_addnorm.layers.add_norm",
    "layers as an attribute": "import keras_addnorm\nkeras_addnorm.layers.AddNorm",
    "keras, layers": "import keras\nfrom keras_addnorm.layers import AddNorm",
    "models": "import keras_addnorm.models",
    "a module of models": "import keras_addnorm.models.residual",
    "zoo": "from keras_addnorm import zoo",
    "export": "import keras_addnorm.export",
    "commands": "import keras_addnorm.commands",
    "text, keras": "import keras_addnorm.text, keras",
    "reloaded": "import importlib, keras_addnorm\nimportlib.reload(keras_addnorm)\nimport keras",
    "imported anew": "import keras_addnorm, sys\n"
    "for name in [x for x in sys.modules if x.split('.')[0] == 'keras_addnorm']:\n"
    "    del sys.modules[name]\n"
    "import keras_addnorm, keras",
    "the loader copied": "import copy, importlib.util, keras_addnorm\n"
    "copy.copy(importlib.util.find_spec('keras').loader)\nimport keras",
    "found before it is loaded": "import importlib.util, keras_addnorm\n"
    "importlib.util.find_spec('keras')\nimport keras",
    "threads": """
import keras_addnorm, threading
names = ["keras", "keras_addnorm.layers", "keras_addnorm.models", "keras_addnorm.zoo"]
threads = [threading.Thread(target=__import__, args=(name,)) for name in names]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registration")
    TransformerEncoder(**TINY_ENCODER).save(folder / "encoder.keras")
    return folder


def run(code, folder, *arguments):
    """Runs code in a fresh process in which our warnings are errors; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", *(arguments or ("-c", code))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("order", ORDERS)
def test_keras_finds_our_classes(order, folder):
    assert run(ORDERS[order] + LOAD, folder) == "TransformerEncoder\n"


def test_a_spawned_process_finds_them_too(folder):
    code = (
        "import multiprocessing\n"
        "import keras_addnorm\n"
        "def load(path):\n"
        "    import keras\n"
        "    return type(keras.saving.load_model(path)).__name__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(*pool.map(load, ['encoder.keras']))\n"
    )
    (folder / "spawn.py").write_text(code)
    assert run(code, folder, "spawn.py") == "TransformerEncoder\n"


@pytest.mark.parametrize(
    "statement",
    [
        "import keras_addnorm",
        "import keras_addnorm.files",
        "import keras_addnorm.cli",
        "from keras_addnorm.text import Embedder, Classifier",
    ],
)
def test_no_keras_without_need(statement, folder):
    heavy = "{'keras', 'keras_hub', 'tensorflow', 'torch', 'jax'}"
    assert run(f"{statement}\nimport sys\nprint({heavy} & set(sys.modules))", folder) == "set()\n"


def test_the_loader_of_keras_is_its_own(folder):
    code = """
import importlib, importlib.resources, inspect, pkgutil
import keras_addnorm
spec = importlib.util.find_spec("keras")
assert spec.loader.get_source("keras") and spec.loader.is_package("keras")
import keras
assert type(keras.__loader__).__name__ == "SourceFileLoader" == type(keras.__spec__.loader).__name__
assert inspect.getsource(keras) and pkgutil.get_data("keras", "__init__.py")
assert (importlib.resources.files("keras") / "__init__.py").is_file()
assert keras_addnorm.layers.__loader__ is keras_addnorm.layers.__spec__.loader
importlib.reload(keras_addnorm.layers)
"""
    run(code, folder)


BROKEN = {"keras": "", "keras_hub": "raise ImportError('no hub here')"}


@pytest.mark.parametrize("order", ["keras_addnorm, keras", "keras, keras_addnorm"])
def test_a_keras_that_cannot_be_used_is_a_warning(order, tmp_path):
    for name, source in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(source)
    root = str(pathlib.Path(__file__).parents[1])
    code = f"""
import sys, warnings
sys.path[:0] = [{str(tmp_path)!r}, {root!r}]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import {order}
print(*(f"{{w.category.__name__}}: {{w.message}}" for w in caught))
import keras_addnorm.text
try:
    keras_addnorm.models
except Exception as error:
    print(type(error).__name__)
"""
    first, second = run(code, tmp_path).splitlines()
    assert first.startswith("RuntimeWarning: Keras cannot load files with classes of keras_addnorm")
    assert second in ("ImportError", "ModuleNotFoundError", "AttributeError")


def test_the_package_says_what_it_has(folder):
    code = "import keras_addnorm\nassert {'text', 'layers', 'zoo'} <= set(dir(keras_addnorm))\n"
    run(code + "try:\n  keras_addnorm.nothing\nexcept AttributeError as e: print(e)", folder)
