"""The arithmetic and the processes of benchmarks/litert.py; its figures are its own business."""

import pathlib
import sys

import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.export.runtime import LiteRTModel
from tests.export import common

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """The benchmark's own modules, which import each other as when the script is run."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import engines
        import litert
        import litert_tables
        import texts
    finally:
        sys.path.remove(str(BENCHMARKS))
    return {"litert": litert, "engines": engines, "tables": litert_tables, "texts": texts}


def test_spearman_is_the_correlation_of_ranks_and_ties_share_theirs(modules, rng):
    spearman = modules["litert"].spearman
    assert spearman([1.0, 10.0, 100.0], [0.1, 0.2, 0.3]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: the covariance is 4.5, the squared sums 4.5 and 5.
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_medians_do_not_know_of_slow_turns(modules):
    times = {"a": [1.0, 1.0, 2.0, 9.0, 1.0], "b": [2.0, 2.0, 4.0, 18.0, 50.0]}
    found = modules["litert"].leveled_medians(times)
    assert found["b"] / found["a"] == pytest.approx(2.0)
    assert found["a"] == pytest.approx(2.0)  # of the turns' levels, the third largest is 2 sqrt(2)
    alone = modules["litert"].leveled_medians({"a": [3.0, 1.0, 2.0]})
    assert alone == pytest.approx({"a": 2.0})


def test_limits_are_operations_over_rates(modules):
    config = {"hidden_size": 10, "intermediate_size": 40, "num_hidden_layers": 2}
    found = modules["litert"].limits({"float32": 1.0, "int8": 4.0}, 3, 5, config)
    # 2 operations, 2 layers, 15 positions, 1200 weights; and 2 products with 5 positions of 10.
    assert found["float32"] == pytest.approx((72_000 + 6_000) / 1e6)
    assert found["int8"] == pytest.approx((72_000 / 4 + 6_000) / 1e6)


def test_sentences_are_cut_out_of_reviews(modules):
    cut = modules["texts"]._sentence
    assert cut("One of three words. The second<br /><br />of all. A third.") == "The second of all."
    assert cut("no end of a sentence , as rotten tomatoes has it") == (
        "no end of a sentence , as rotten tomatoes has it"
    )
    assert cut('" Ha. No.') == '" Ha. No.'


def test_series_cover_every_recipe_and_pad_to_their_files(modules):
    engines = modules["engines"]
    rows = [*engines.ours(export.RECIPES), *engines.peers()]
    names = [series.name for series in rows]
    assert len(set(names)) == len(names) == len(export.RECIPES) + 2 + 13
    mine = rows[0]
    assert mine.path("64", "").name == "ours_float32.tflite"
    assert mine.path("8x128", "").name == "ours_float32_8x128.tflite"
    alone = next(series for series in rows if series.name == "keras_addnorm float32, ids alone")
    assert alone.path("64", "").name == "ours_float32_ids.tflite" and alone.limit == "float32"
    inputs = engines.sequence_inputs([7, 8], 4)
    assert inputs["token_ids"] == [[7, 8, 0, 0]] and inputs["padding_mask"] == [[1, 1, 0, 0]]


def test_a_worker_embeds_and_says_what_went_wrong(modules, tmp_path, monkeypatch):
    engines = modules["engines"]
    monkeypatch.setattr(engines, "FILES", tmp_path)
    export.to_tflite(
        common.embedder(), tmp_path / "tiny.tflite", sequence_length=None, verify=False
    )
    model = LiteRTModel(tmp_path / "tiny.tflite")
    series = engines.Series("tiny", "litert", "tiny.tflite")
    with engines.Pool(tmp_path, 1) as pool:
        for ids in ([5, 6, 7], [5, 6, 7, 8, 9], [9, 8, 7]):
            found, seconds = pool.embed(series, ids)
            inputs = engines.sequence_inputs(ids, len(ids))
            expected = model({k: np.array(v, "int32") for k, v in inputs.items()})["embedding"][0]
            np.testing.assert_array_equal(np.array(found, "float32"), expected)
            assert seconds > 0
        padded, _ = pool.embed(series, [5, 6, 7], padded_to=16)
        np.testing.assert_allclose(padded, pool.embed(series, [5, 6, 7])[0], atol=1e-5)
        name = pool.load(series, "16")
        assert pool.ask("litert", do="time", model=name)["seconds"] > 0
        with pytest.raises(SystemExit, match="litert, unknown: KeyError"):
            pool.ask("litert", do="time", model="unknown")
        missing = engines.Series("missing", "litert", "missing.tflite")
        with pytest.raises(SystemExit, match="is missing. Run `make peers` first"):
            pool.load(missing, "16")


def test_tables_hold_ratios_of_the_results(modules):
    tables = modules["tables"]
    cell = {
        "ms": {"keras_addnorm float32": 8.0, "other int8": 2.0},
        "limit_ms": {"float32": 2.0, "int8": 1.0},
    }
    latency = {
        "threads": {"1": {"16": cell, "8x128": cell}},
        "arithmetic": {"keras_addnorm float32": "float32", "other int8": "int8"},
    }
    assert tables.markdown_tables({"latency": latency}).splitlines() == [
        "| ms, 1 thread | 16 | 8 x 128 |",
        "|---|---|---|",
        "| **keras_addnorm float32** | 8 (25%) | 8 (25%) |",
        "| other int8 | 2 | 2 |",
        "| limit, dense layers in float32 | 2 | 2 |",
        "| limit, dense layers in int8 | 1 | 1 |",
    ]
    assert tables.markdown_tables({}) == ""
