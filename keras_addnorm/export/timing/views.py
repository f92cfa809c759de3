"""A `BenchReport` as tables for the terminal and as a plot."""

import os
import pathlib

from rich import box
from rich.table import Table
from rich.text import Text

SHOWN = 12  # operators of a profile; the rest is summed up


def labels(files):
    """Short names of files that still differ: what their paths do not share."""
    if len(files) < 2:
        return {file: pathlib.Path(file).name for file in files}
    folders = {os.path.dirname(os.path.abspath(file)) for file in files}
    common = os.path.commonpath(folders)
    return {file: os.path.relpath(os.path.abspath(file), common) for file in files}


def bench_table(report):
    """The figures of a report, as a table."""
    names = labels(report.bytes)
    title = f"{report.runs} interleaved runs, {_threads(report)}, {report.padding:.0%} padding"
    columns = ["file", "length", "median, ms", "p90, ms", "load, ms", "first, ms"]
    columns += ["RSS before", "RSS after", "size, MB", "partitions"]
    if report.against is not None:
        columns.insert(4, f"/ {names[report.against]}")
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        justify = "left" if column == "file" else "right"
        table.add_column(Text(column), justify=justify, no_wrap=column == "file")
    for t in report.timings:
        cells = [names[t.file], "–" if t.length is None else str(t.length)]
        cells += [f"{t.median_ms:.3g}", f"{t.p90_ms:.3g}"]
        if report.against is not None:
            cells.append("–" if t.ratio is None else f"{t.ratio:.3f}")
        cells += [f"{t.load_ms:.1f}", f"{t.first_ms:.3g}", _mb(t.rss_before), _mb(t.rss_after)]
        cells += [f"{report.bytes[t.file] / 1e6:.2f}", str(t.partitions)]
        table.add_row(*map(Text, cells))
    return table


def _threads(report):
    return f"{report.num_threads} thread{'s' if report.num_threads > 1 else ''}"


def _mb(size):
    return "–" if size is None else f"{size / 1e6:.0f}"


def profile_table(timing, name):
    """Where the time of one file goes at one length, as a table."""
    found = timing.profile
    at = "" if timing.length is None else f" at length {timing.length}"
    title = f"{name}{at}: {1e3 * found['seconds']:.3g} ms by operator"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("operator", "count", "ms", "share"):
        table.add_column(column, justify="left" if column == "operator" else "right")
    *operators, between = found["operators"]
    rest = operators[SHOWN:]
    rows = [(row["name"], row["count"], row["seconds"]) for row in operators[:SHOWN]]
    if rest:
        total = sum(row["seconds"] for row in rest)
        rows.append((f"{len(rest)} others", sum(row["count"] for row in rest), total))
    rows.append((between["name"], "", between["seconds"]))
    for operator, count, seconds in rows:
        share = seconds / found["seconds"]
        cells = (operator, str(count), f"{1e3 * seconds:.3f}", f"{share:.1%}")
        table.add_row(*map(Text, cells))
    return table


def check_plot(path):
    """Refuses a plot that cannot be drawn, before anything is measured.

    Raises:
        ValueError: if the ending is none of an image.
        ImportError: if matplotlib is not installed.
    """
    if pathlib.Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(
            f"A plot is a .png, .svg or .pdf file. Received: {path}. Correct the ending."
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "A plot needs matplotlib, which is not installed. Run `pip install matplotlib`."
        ) from error


def plot(report, path):
    """Draws the latency against the length, a line a file, and writes it to `path`."""
    check_plot(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import (
        FixedLocator,
        LogLocator,
        NullFormatter,
        NullLocator,
        StrMethodFormatter,
    )

    names = labels(report.bytes)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    lengths = sorted({t.length for t in report.timings if t.length is not None})
    for index, (file, name) in enumerate(names.items()):
        points = [t for t in report.timings if t.file == file]
        x = [t.length if t.length is not None else 1 for t in points]
        y = [t.median_ms for t in points]
        axes.plot(x, y, marker="osD^vP*X"[index % 8], linewidth=1.8, label=name)
    axes.xaxis.set_major_locator(FixedLocator(lengths or [1]))
    axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    # Plain numbers: less than a decade would have no other labels than those of minor ticks.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("sequence length, tokens")
    axes.set_ylabel("median latency, ms")
    axes.set_title(f"{_threads(report)}, {report.runs} interleaved runs")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
