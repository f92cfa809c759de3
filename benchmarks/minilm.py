"""Exports all-MiniLM-L6-v2 with every recipe and measures size and accuracy on 100 sentences.

    python benchmarks/minilm.py

Writes `benchmarks/results/minilm.json` and the table in README.md that is made from it.
"""

import datetime
import json
import os
import pathlib
import platform
import tempfile

from readme import write_table
from rich.console import Console

from keras_addnorm.quiet import quiet

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "minilm.json"
SENTENCES = ROOT / "examples" / "data" / "sentences.txt"
LENGTH = 128
MARKS = ("<!-- minilm: made by benchmarks/minilm.py -->", "<!-- minilm: end -->")


def measure(progress):
    """Runs all exports; returns the results as JSON types."""
    from keras_addnorm import export, zoo
    from keras_addnorm.export.pipeline import keras_function
    from keras_addnorm.export.report import versions
    from keras_addnorm.export.runtime import open_model
    from keras_addnorm.export.samples import tokenize
    from keras_addnorm.export.verify import compare

    embedder = zoo.from_hugging_face("minilm", task="embed")
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()
    inputs = tokenize(embedder.preprocessor, texts, LENGTH)
    reference = keras_function(embedder)(inputs)["embedding"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # Recipes that are fitted to a user's texts are compared by benchmarks/litert.py.
        recipes = [r.name for r in export.RECIPES.values() if r.calibration != "own"]
        for name in recipes:
            path = pathlib.Path(folder) / f"{name}.tflite"
            report = export.to_tflite(embedder, path, quantization=name, progress=progress)
            rows.append(
                _row(name, report, compare(reference, open_model(path)(inputs)["embedding"]))
            )
        path = pathlib.Path(folder) / "saved_model"
        report = export.to_saved_model(embedder, path, progress=progress)
        exported = open_model(path)(inputs)["embedding"]
        rows.append(_row("SavedModel", report, compare(reference, exported)))
    return {
        "model": "all-MiniLM-L6-v2",
        "sentences": len(texts),
        "sequence_length": LENGTH,
        "date": datetime.date.today().isoformat(),
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "versions": versions(),
        "rows": rows,
    }


def _row(name, report, difference):
    return {
        "export": name,
        "bytes": report.bytes,
        "max_abs_error": difference.max_abs_error,
        "min_cosine": difference.min_cosine,
        "mean_cosine": difference.mean_cosine,
        "xnnpack_partitions": report.xnnpack_partitions,
        "seconds": report.seconds,
    }


def markdown_table(results):
    """The results as the table of the README."""
    lines = [
        "| export | size, MB | max abs error | worst cosine | mean cosine | XNNPACK partitions |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        partitions = row["xnnpack_partitions"] or "–"
        lines.append(
            f"| {row['export']} | {row['bytes'] / 1e6:.2f} | {row['max_abs_error']:.1e} | "
            f"{row['min_cosine']:.4f} | {row['mean_cosine']:.4f} | {partitions} |"
        )
    return "\n".join(lines)


def main():
    """Measures, and writes the results and the README's table."""
    with quiet() as terminal, Console(file=terminal).status("starting TensorFlow") as status:
        results = measure(status.update)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write_table(MARKS, markdown_table(results))
    print(markdown_table(results))


if __name__ == "__main__":
    main()
