"""Embeds real sentences with text bundles, sentence-transformers and fastembed, in turns.

    make text-results, or: python benchmarks/text.py [--sections start_up,speed] [--keep]

Writes `benchmarks/results/text.json` and the table in README.md that is made from it. Start-up is
the time of a whole process that imports the library, loads all-MiniLM-L6-v2 and embeds one
sentence, its files in the page cache. All run with their defaults on all
cores; the others also a text at a time, which pads nothing, as our files do.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import texts
from litert import checkpoint, machine
from readme import write_table
from rich.console import Console

from keras_addnorm.quiet import quiet

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "text.json"
PEERS = ROOT / ".peers"
FILES = PEERS / "files"
WORKER = ROOT / "benchmarks" / "peers" / "text_worker.py"
MARKS = ("<!-- text: made by benchmarks/text.py -->", "<!-- text: end -->")
REFERENCE = "sentence-transformers float32"
SECTIONS = ("start_up", "speed")  # One that is not asked for keeps its figures.
SENTENCES, ROUNDS, STARTS = 128, 3, 5
VERSIONS = """
import importlib.metadata as m, json, sys
print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))
"""


@dataclasses.dataclass(frozen=True)
class Library:
    """One row of the table: a Python, what it runs, and where the model is."""

    name: str
    function: str
    python: pathlib.Path
    path: pathlib.Path
    packages: tuple
    batch_size: int | None = None  # its default

    def start(self):
        """A process that has embedded its first sentence, and the seconds that took."""
        command = [self.python, "-P", WORKER, self.function, self.path]
        command += [] if self.batch_size is None else [self.batch_size]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        path = {"PYTHONPATH": str(ROOT)} if self.python == pathlib.Path(sys.executable) else {}
        started = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)),
            **pipes,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **path},
        )
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        if not line:
            raise SystemExit(f"{self.name} does not run: {' '.join(map(str, command))}")
        return process, seconds

    def versions(self):
        """Versions of its packages."""
        command = [self.python, "-c", VERSIONS, *self.packages]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def libraries(folder):
    """All rows; `folder` is the checkpoint's."""
    own = pathlib.Path(sys.executable)
    return [
        *(
            Library(
                f"keras_addnorm {recipe}",
                "keras_addnorm",
                own,
                FILES / f"bundle_{recipe}",
                ("keras_addnorm", "ai-edge-litert", "tokenizers"),
            )
            for recipe in ("dynamic_int8", "float32")
        ),
        *peer(
            REFERENCE,
            "sentence_transformers",
            pathlib.Path(folder),
            ("sentence-transformers", "torch", "transformers"),
        ),
        *peer("fastembed float32", "fastembed", FILES / "fastembed", ("fastembed", "onnxruntime")),
    ]


def peer(name, function, path, packages):
    """A library with its default batches, and with batches of one text."""
    python = PEERS / function / "bin" / "python"
    default = Library(name, function, python, path, packages)
    return [default, dataclasses.replace(default, name=f"{name}, one by one", batch_size=1)]


def make_bundles(progress):
    """Exports the bundles that are measured; returns the folder of the checkpoint."""
    from keras_addnorm import export, zoo

    embedder = zoo.from_hugging_face("minilm", task="embed")
    for recipe in ("dynamic_int8", "float32"):
        path = FILES / f"bundle_{recipe}"
        export.to_text_bundle(
            embedder, path, quantization=recipe, overwrite=True, progress=progress
        )
    return checkpoint()


def ask(process, sentences):
    """`(embeddings, seconds)` of a running process."""
    process.stdin.write(json.dumps(sentences) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return np.array(answer["embeddings"]), answer["seconds"]


def stop(process):
    """Ends a process."""
    process.stdin.close()
    process.stdout.close()
    process.wait()


def start_up(rows, progress, rounds=STARTS):
    """Seconds of a start of each library: the median of rounds that start all of them in turn."""
    rows = [row for row in rows if row.batch_size is None]
    seconds = {row.name: [] for row in rows}
    for number in range(rounds + 1):  # The first reads the files from the disk.
        progress(f"starting, round {number + 1} of {rounds + 1}")
        for row in rows:
            process, taken = row.start()
            stop(process)
            seconds[row.name] += [taken] if number else []
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"rounds": rounds, "seconds": medians}


def speed(rows, sentences, progress, rounds=ROUNDS):
    """Sentences a second and cosines of each library, in rounds that run all of them in turn."""
    processes = {row.name: row.start()[0] for row in rows}
    seconds, embeddings = {row.name: [] for row in rows}, {}
    for number in range(rounds + 1):  # The first warms up.
        progress(f"embedding, round {number + 1} of {rounds + 1}")
        for name, process in processes.items():
            embeddings[name], taken = ask(process, sentences)
            seconds[name] += [taken] if number else []
    for process in processes.values():
        stop(process)
    rates = {name: len(sentences) / statistics.median(x) for name, x in seconds.items()}
    same = {name: cosines(found, embeddings[REFERENCE]) for name, found in embeddings.items()}
    facts = {"count": len(sentences), "how": texts.HOW}
    return {"rounds": rounds, "sentences": facts, "per_second": rates, "cosines": same}


def cosines(ours, theirs):
    """The worst and the mean cosine of embeddings of the same texts."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs)]
    found = np.sum(unit[0] * unit[1], axis=1)
    return {"min_cosine": float(found.min()), "mean_cosine": float(found.mean())}


def markdown_table(results):
    """The results as the table of the README."""
    lines = [
        "| library | start-up, s | sentences/s | worst cosine | mean cosine |",
        "|---|---|---|---|---|",
    ]
    for name, rate in results["speed"]["per_second"].items():
        seconds, same = results["start_up"]["seconds"].get(name), results["speed"]["cosines"][name]
        start = "" if seconds is None else f"{seconds:.2f}"
        worst, mean = (f"{same[key]:.4f}" for key in ("min_cosine", "mean_cosine"))
        worst, mean = ("–", "–") if name == REFERENCE else (worst, mean)
        shown = f"**{name}**" if name.startswith("keras_addnorm") else name
        lines.append(f"| {shown} | {start} | {rate:.0f} | {worst} | {mean} |")
    return "\n".join(lines)


def main():
    """Measures, and writes the results and the README's table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep the bundles of an earlier run")
    parser.add_argument("--sections", default=",".join(SECTIONS), metavar="NAME,NAME")
    args = parser.parse_args()
    asked = args.sections.split(",")
    if not set(asked) <= set(SECTIONS):
        parser.error(f"--sections are {', '.join(SECTIONS)}. Received: {args.sections}.")
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with quiet() as terminal, Console(file=terminal).status("starting TensorFlow") as status:
        rows = libraries(checkpoint() if args.keep else make_bundles(status.update))
        if "start_up" in asked:
            results["start_up"] = start_up(rows, status.update)
        if "speed" in asked:
            results["speed"] = speed(rows, texts.sentences(SENTENCES), status.update)
    results |= {
        "model": "all-MiniLM-L6-v2",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {name: v for row in rows for name, v in row.versions().items()},
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if set(SECTIONS) <= results.keys():
        write_table(MARKS, markdown_table(results))
        print(markdown_table(results))


if __name__ == "__main__":
    main()
