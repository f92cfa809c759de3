"""The arithmetic and the processes of benchmarks/text.py; its figures are its own business."""

import dataclasses
import pathlib
import sys

import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.text import Embedder
from tests.export import common

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    """The benchmark, which imports modules beside it as when it is run."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import text
    finally:
        sys.path.remove(str(BENCHMARKS))
    return text


def test_a_library_is_measured(script, tmp_path):
    export.to_text_bundle(common.embedder(), tmp_path / "b", quantization=None)
    row = script.Library(
        script.REFERENCE,
        "keras_addnorm",
        pathlib.Path(sys.executable),
        tmp_path / "b",
        ("numpy",),
        batch_size=2,
    )
    sentences = ["a cat", "the dog runs fast", "yes"]
    process, seconds = row.start()
    assert seconds > 0
    found, _ = script.ask(process, sentences)
    script.stop(process)
    np.testing.assert_allclose(found, Embedder(tmp_path / "b").embed(sentences), atol=1e-6)
    assert row.versions() == {"numpy": np.__version__}
    row = dataclasses.replace(row, batch_size=None)
    started = script.start_up([row], lambda step: None, rounds=1)
    assert started["rounds"] == 1 and started["seconds"][row.name] > 0
    result = script.speed([row], sentences, lambda step: None, rounds=2)
    assert result["per_second"][row.name] > 0 and result["sentences"]["count"] == 3
    assert result["cosines"][row.name]["min_cosine"] == pytest.approx(1)


def test_a_library_that_does_not_run_is_named(script, tmp_path):
    python = pathlib.Path(sys.executable)
    row = script.Library("nothing", "keras_addnorm", python, tmp_path, ())
    with pytest.raises(SystemExit, match="nothing does not run: "):
        row.start()


def test_cosines(script):
    found = script.cosines(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert found["min_cosine"] == pytest.approx(0.5**0.5)
    assert found["mean_cosine"] == pytest.approx((1 + 0.5**0.5) / 2)


def test_the_table(script):
    names = ("keras_addnorm x", script.REFERENCE, "x, one by one")
    same = {"min_cosine": 0.9, "mean_cosine": 1.0}
    results = {
        "start_up": {"seconds": dict.fromkeys(names[:2], 0.5)},
        "speed": {
            "per_second": dict.fromkeys(names, 99.6),
            "cosines": dict.fromkeys(names, same),
        },
    }
    assert script.markdown_table(results).splitlines()[2:] == [
        "| **keras_addnorm x** | 0.50 | 100 | 0.9000 | 1.0000 |",
        "| sentence-transformers float32 | 0.50 | 100 | – | – |",
        "| x, one by one |  | 100 | 0.9000 | 1.0000 |",
    ]
