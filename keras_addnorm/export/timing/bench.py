"""Timing .tflite files beside each other: interleaved runs, cold starts and operator profiles."""

import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.report import versions
from keras_addnorm.export.timing.inputs import choose, make_inputs, read_signatures
from keras_addnorm.export.timing.timed import TimedModel

HERE = pathlib.Path(__file__).parent
COLD_STARTS = 3  # processes a file and length
PROFILED_RUNS = 20


@dataclasses.dataclass(frozen=True)
class Timing:
    """One file at one length.

    Attributes:
        file: the path, as it was given.
        length: int, or None for a file that takes no sequences.
        signature: key of the signature that ran, or None.
        median_ms, p90_ms: of an inference, over the interleaved runs.
        ratio: median over the rounds of this file's time by that of `against` in the same round;
            None without `against`, or where it does not run at this length.
        load_ms: construction of the interpreter, resizing and allocation, in a fresh process.
        first_ms: the first inference there.
        rss_before, rss_after: bytes resident in that process before the file was loaded and after
            the first inference; None where the system does not tell.
        partitions: pieces of the main graph that the XNNPACK delegate took over.
        profile: what `op_profile.profile` returned, or None.
    """

    file: str
    length: int | None
    signature: str | None
    median_ms: float
    p90_ms: float
    ratio: float | None
    load_ms: float
    first_ms: float
    rss_before: int | None
    rss_after: int | None
    partitions: int
    profile: dict | None


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """The record of one benchmark.

    Attributes:
        timings: list of `Timing`, by length and in the order of the files.
        bytes: size of each file.
        against: the file that ratios refer to, or None.
        runs, num_threads, padding: as they were asked for.
        cpus, versions: of the machine.
    """

    timings: list
    bytes: dict
    against: str | None
    runs: int
    num_threads: int
    padding: float
    cpus: int
    versions: dict

    def to_json(self):
        """The report as a JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)


@dataclasses.dataclass(frozen=True)
class _Case:
    """What runs: a file, at a length, by a signature, with inputs."""

    file: str
    length: int | None
    signature: str | None
    inputs: dict


def bench(
    files,
    *,
    against=None,
    lengths=(16, 64, 128),
    num_threads=1,
    runs=50,
    padding=0.0,
    profile=False,
    progress=None,
):
    """Times .tflite files, ours or not, in LiteRT's interpreter.

    At each length all files are loaded and run in turn, so that whatever else the machine does
    meets all alike. Loading, the first inference and memory are measured in fresh processes, which
    hold nothing but numpy and LiteRT; the files are in the page cache by then.

    Args:
        files: list of paths.
        against: path of the file that ratios refer to, one of `files` or another; or None.
        lengths: sequence lengths. A file of one fixed length runs at that alone, one of several
            fixed signatures by the shortest that holds a length.
        num_threads: int, threads of an inference.
        runs: int, rounds at each length.
        padding: share of each sequence that the mask leaves out, at the end.
        profile: bool, whether the operators are timed too.
        progress: function of a step's name, called as each step starts.

    Returns:
        A `BenchReport`.

    Raises:
        ValueError: on an invalid argument.
        ExportError: if a file cannot be read or run.
    """
    files = list(dict.fromkeys(map(str, [*files, *([against] if against else [])])))
    _check(lengths, num_threads, runs, padding)
    announce = progress or (lambda step: None)
    cases = [case for file in files for case in _cases(file, lengths, padding)]
    cold = _cold_starts(cases, num_threads, announce)
    timings = []
    for length in sorted({c.length for c in cases}, key=lambda length: length or 0):
        group = [case for case in cases if case.length == length]
        where = "" if length is None else f" at length {length}"
        announce(f"timing{where}")
        seconds = _interleaved(group, num_threads, runs)
        for case in group:
            operators = None
            if profile:
                announce(f"profiling {case.file}{where}")
                operators = _script("op_profile", case, num_threads, PROFILED_RUNS)
            timings.append(_timing(case, seconds, against, cold[id(case)], operators))
    return BenchReport(
        timings=timings,
        bytes={file: pathlib.Path(file).stat().st_size for file in files},
        against=None if against is None else str(against),
        runs=runs,
        num_threads=num_threads,
        padding=padding,
        cpus=os.cpu_count(),
        versions={**versions(), "system": platform.system()},
    )


def _check(lengths, num_threads, runs, padding):
    numbers = {"num_threads": num_threads, "runs": runs}
    numbers |= {f"lengths[{i}]": length for i, length in enumerate(lengths)}
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(
                f"`{name.split('[')[0]}` must be positive whole numbers. "
                f"Received: {name}={number!r}. Pass 1 or more."
            )
    if not lengths:
        raise ValueError("`lengths` must hold a length. Received: none. Pass for instance (128,).")
    if not 0 <= padding < 1:
        raise ValueError(
            "`padding` is a share of the sequence, at least 0 and below 1. "
            f"Received: padding={padding!r}. Pass for instance 0.5."
        )


def _cases(file, lengths, padding):
    signatures = read_signatures(file)
    chosen = choose(signatures, sorted(set(lengths)))
    if not chosen:
        longest = max((s.length for s in signatures if s.length), default=None)
        raise ExportError(
            f"{file} takes sequences of at most {longest}. Received: lengths={tuple(lengths)}. "
            "Pass a length that it holds."
        )
    return [_Case(file, length, s.key, make_inputs(s, length, padding)) for length, s in chosen]


def interleave(functions, runs, clock=time.perf_counter):
    """Times functions in rounds, so that whatever else the machine does meets all alike.

    In each round every function runs twice and the second run counts: the first brings its weights
    back into the caches, and the threads of the function before it come to rest.

    Args:
        functions: dict of functions without arguments.
        runs: int, number of rounds.
        clock: function that returns seconds.

    Returns:
        Dict of lists of seconds, one for each round.
    """
    seconds = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            function()
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return seconds


def ratio(seconds, reference):
    """The median over rounds of `seconds / reference`, round by round."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def _interleaved(cases, num_threads, runs):
    models = {}
    for case in cases:
        model = _run(case, lambda case=case: _warm(case, num_threads))
        models[case.file] = model
    return interleave(models, runs)


def _warm(case, num_threads):
    model = TimedModel(case.file, case.inputs, case.signature, num_threads)
    model()
    return model


def _run(case, function):
    try:
        return function()
    except (ValueError, RuntimeError) as error:
        raise _failure(case, error) from error


def _failure(case, error):
    where = "" if case.length is None else f" at length {case.length}"
    return ExportError(
        f"LiteRT cannot run {case.file}{where}: {str(error).strip()}. Check that the file needs "
        "built-in ops only and that the length is one it takes."
    )


def _cold_starts(cases, num_threads, announce):
    """Medians of the cold starts of each case, by its id; rounds over the cases."""
    results = {id(case): [] for case in cases}
    for number in range(COLD_STARTS):
        announce(f"loading in fresh processes, {number + 1} of {COLD_STARTS}")
        for case in cases:
            results[id(case)].append(_script("timed", case, num_threads))
    return {key: _medians(found) for key, found in results.items()}


def _medians(results):
    columns = {name: [result[name] for result in results] for name in results[0]}
    return {
        name: None if None in values else statistics.median_low(values)
        for name, values in columns.items()
    }


def _script(name, case, num_threads, *arguments):
    """What a script of this folder prints about a case, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = pathlib.Path(folder) / "inputs.npz"
        np.savez(inputs, **case.inputs)
        # -P: this folder holds modules that are called like Python's own.
        command = [sys.executable, "-P", HERE / f"{name}.py", case.file, inputs, num_threads]
        command += [*arguments, *([] if case.signature is None else [case.signature])]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise _failure(case, f"{name}.py ended with code {done.returncode}: {lines[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _timing(case, seconds, against, cold, operators):
    mine, theirs = seconds[case.file], seconds.get(str(against))
    return Timing(
        file=case.file,
        length=case.length,
        signature=case.signature,
        median_ms=1e3 * statistics.median(mine),
        p90_ms=1e3 * float(np.quantile(mine, 0.9)),
        ratio=None if theirs is None else ratio(mine, theirs),
        load_ms=1e3 * cold["load_seconds"],
        first_ms=1e3 * cold["first_seconds"],
        rss_before=cold["rss_before"],
        rss_after=cold["rss_after"],
        partitions=cold["partitions"],
        profile=operators,
    )
