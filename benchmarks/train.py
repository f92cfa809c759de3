"""Speed of the forward pass and of a training step against KerasHub's equivalent stack.

    python benchmarks/train.py

Both models have the same embeddings, blocks, masks, dropout and head, are compiled by XLA, and run
interleaved in one process for each backend: TensorFlow, and JAX where it is installed. The figures
are ratios of medians; above 1 ours is faster. A third function computes nothing but the matrix
products of the dense layers, which is as fast as a forward pass can be on the machine. Writes
`benchmarks/results/train.json` and the README's table.
"""

import argparse
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

from readme import write_table
from rich.console import Console

RESULTS = pathlib.Path(__file__).parent / "results" / "train.json"
MARKS = ("<!-- train: made by benchmarks/train.py -->", "<!-- train: end -->")
BACKENDS = ("tensorflow", "jax")
VOCABULARY, BATCH, LENGTH = 1000, 8, 128
# BERT's tiny, small and base: layers, heads, width, inner width, and rounds of the measurement.
SIZES = {
    "tiny": (2, 2, 128, 512, 60),
    "small": (4, 8, 512, 2048, 15),
    "base": (12, 12, 768, 3072, 7),
}


def inputs():
    """Token ids and a padding mask under which half of the positions are real on average."""
    import numpy as np

    rng = np.random.default_rng(0)
    real = rng.integers(1, LENGTH + 1, (BATCH, 1))
    return {
        "token_ids": rng.integers(1, VOCABULARY, (BATCH, LENGTH), dtype="int32"),
        "padding_mask": (np.arange(LENGTH) < real).astype("int32"),
    }


def with_head(model_inputs, sequence):
    """A classifier over the first token, compiled."""
    import keras

    logits = keras.layers.Dense(2)(sequence[:, 0])
    model = keras.Model(model_inputs, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, jit_compile=True)
    return model


def ours(layers, heads, width, inner):
    """This package's encoder."""
    from keras_addnorm.models import TransformerEncoder

    encoder = TransformerEncoder(
        VOCABULARY,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        intermediate_dim=inner,
        activation="gelu",
        position="learned",
        max_sequence_length=LENGTH,
    )
    return with_head(encoder.input, encoder.output["sequence_output"])


def kerashub(layers, heads, width, inner):
    """KerasHub's layers, stacked the same way."""
    import keras
    import keras_hub

    model_inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "padding_mask")
    }
    embedding = keras_hub.layers.TokenAndPositionEmbedding(VOCABULARY, LENGTH, width)
    x = keras.layers.Dropout(0.1)(embedding(model_inputs["token_ids"]))
    for _ in range(layers):
        block = keras_hub.layers.TransformerEncoder(
            inner, heads, dropout=0.1, activation=keras.activations.gelu
        )
        x = block(x, padding_mask=model_inputs["padding_mask"])
    return with_head(model_inputs, x)


def products(layers, heads, width, inner):
    """A compiled function of the matrix products of the dense layers of all blocks, and no more."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
    kernels = [
        [keras.ops.convert_to_tensor(rng.normal(0.0, width**-0.5, s), "float32") for s in shapes]
        for _ in range(layers)
    ]
    x = keras.ops.convert_to_tensor(rng.normal(size=(BATCH * LENGTH, width)), "float32")

    def function(x, kernels):
        for query, key, value, output, first, second in kernels:
            x = ((x @ query) + (x @ key) + (x @ value)) @ output
            x = (x @ first) @ second
        return x

    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    else:
        import tensorflow as tf

        compiled = tf.function(function, jit_compile=True)
    return lambda: keras.ops.convert_to_numpy(compiled(x, kernels))


def measure(size):
    """Medians in milliseconds of both models for one size, interleaved."""
    import numpy as np

    *shape, rounds = SIZES[size]
    models = {"ours": ours(*shape), "kerashub": kerashub(*shape)}
    assert models["ours"].count_params() == models["kerashub"].count_params()
    x, y = inputs(), np.zeros((BATCH,), "int32")
    runs = {
        "forward": {name: (lambda m=m: m.predict_on_batch(x)) for name, m in models.items()},
        "train": {name: (lambda m=m: m.train_on_batch(x, y)) for name, m in models.items()},
    }
    runs["forward"]["products"] = products(*shape)
    row = {"size": size, "parameters": models["ours"].count_params()}
    for kind, functions in runs.items():
        times = {name: [] for name in functions}
        for i in range(rounds + 2):
            for name, run in functions.items():
                start = time.perf_counter()
                run()
                if i >= 2:  # The first two rounds compile and warm up.
                    times[name].append(1e3 * (time.perf_counter() - start))
        medians = {name: statistics.median(values) for name, values in times.items()}
        row[kind] = {**medians, "ratio": medians["kerashub"] / medians["ours"], "rounds": rounds}
    return row


def measure_backend(backend, progress):
    """Measures all sizes in a process of that backend, which prints a line of JSON for each."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--backend", backend]
    rows = []
    progress(f"{backend}: {next(iter(SIZES))}")
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        for line in process.stdout:
            rows.append(json.loads(line))
            progress(f"{backend}: after {rows[-1]['size']}")
    if process.returncode or len(rows) < len(SIZES):
        raise SystemExit(f"The {backend} process failed; run `{' '.join(command)}` to see why.")
    return rows


def markdown_table(results):
    """The README's table: how many times faster than KerasHub's stack."""
    rows = [
        "| backend | size | weights | forward | training step | share of matrix products |",
        "|---|---|---|---|---|---|",
    ]
    for backend, sizes in results["backends"].items():
        for row in sizes:
            forward, train = row["forward"], row["train"]
            share = forward["products"] / forward["ours"]
            rows.append(
                f"| {backend} | {row['size']} | {row['parameters'] / 1e6:.1f}M "
                f"| {forward['ratio']:.2f}x | {train['ratio']:.2f}x | {share:.0%} |"
            )
    return "\n".join(rows)


def main():
    """Measures everything, or with --backend one backend, printed as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS)
    args = parser.parse_args()
    if args.backend:
        for size in SIZES:
            print(json.dumps(measure(size)), flush=True)
        return
    from importlib.metadata import version

    present = [b for b in BACKENDS if importlib.util.find_spec(b)]
    names = ("keras", "keras-hub", *present)
    with Console(stderr=True).status("starting") as status:
        rows = {backend: measure_backend(backend, status.update) for backend in present}
    results = {
        "batch": BATCH,
        "length": LENGTH,
        "date": datetime.date.today().isoformat(),
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "versions": {name: version(name) for name in names},
        "backends": rows,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write_table(MARKS, markdown_table(results))
    print(markdown_table(results))


if __name__ == "__main__":
    main()
