"""Loading a file in LiteRT, in a process of its own."""

import dataclasses
import json
import pathlib
import subprocess
import sys

from keras_addnorm.export.reader import printable

PROGRAM = pathlib.Path(__file__).with_name("probe.py")
SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What LiteRT said.

    Attributes:
        error: string, why it does not load the file, or None.
        parts: tuple of sets of indices of operators of the first graph, one for each part of it
            that the XNNPACK delegate took.
    """

    error: str | None
    parts: tuple

    @property
    def delegated(self):
        """Set of indices of all operators that XNNPACK runs."""
        return set().union(*self.parts)


def load(model, seconds=SECONDS):
    """Loads a `ModelFile`'s file within a time in seconds; returns a `Loaded`."""
    # -P: the program's folder must not come first on the path.
    command = [sys.executable, "-P", str(PROGRAM), str(model.path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Loaded(f"it takes more than {seconds} s to load", ())
    if done.returncode < 0:
        return Loaded(f"LiteRT crashes on it (signal {-done.returncode})", ())
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return Loaded(_one_line(f"LiteRT fails on it: {' '.join(last)}"), ())
    record = json.loads(done.stdout.splitlines()[-1])
    if "error" in record:
        return Loaded(_one_line(record["error"]), ())
    return Loaded(None, tuple(_operators(model.graphs[0], part) for part in record["parts"]))


def _one_line(text):
    return printable(" ".join(text.split()))[:500]


def _operators(graph, part):
    """The operators of a delegated part: all between its inputs and its outputs."""
    inputs, found = set(part["inputs"]), set()
    wanted = list(part["outputs"])
    while wanted:
        producer = graph.producers.get(wanted.pop())
        if producer is None or producer.index in found:
            continue
        found.add(producer.index)
        wanted += [t.index for t in producer.inputs if t is not None and t.index not in inputs]
    return found
