"""The tables and the plot of benchmarks/litert.py, made from its results."""

MARKS = ("<!-- litert: made by benchmarks/litert.py -->", "<!-- litert: end -->")
OURS = "keras_addnorm"


def markdown_tables(results):
    """All tables that the results have figures for."""
    makers = {"latency": _latency, "real_text": _real_text, "accuracy": _accuracy}
    tables = [table for name, make in makers.items() if name in results for table in make(results)]
    return "\n\n".join(tables)


def _table(columns, rows):
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _bold(name):
    return f"**{name}**" if name.startswith(OURS) else name


def _latency(results):
    section = results["latency"]
    for threads, cells in section["threads"].items():
        head = f"ms, {threads} thread{'s' if threads != '1' else ''}"
        rows = []
        for name, arithmetic in section["arithmetic"].items():
            row = [f"{cell['ms'][name]:.3g}" for cell in cells.values()]
            if name.startswith(OURS):
                shares = [c["limit_ms"][arithmetic] / c["ms"][name] for c in cells.values()]
                row = [f"{ms} ({share:.0%})" for ms, share in zip(row, shares, strict=True)]
            rows.append([_bold(name), *row])
        for arithmetic in ("float32", "int8"):
            row = [f"{cell['limit_ms'][arithmetic]:.3g}" for cell in cells.values()]
            rows.append([f"limit, dense layers in {arithmetic}", *row])
        yield _table([head, *(shape.replace("x", " x ") for shape in cells)], rows)


def _real_text(results):
    section = results["real_text"]
    ordered = sorted(section["rows"], key=lambda row: row["ms_per_sentence"])
    rows = [[_bold(r["name"]), r["way"], f"{r['ms_per_sentence']:.2f}"] for r in ordered]
    yield _table([f"{section['sentences']} sentences, 1 thread", "how", "ms a sentence"], rows)


def _accuracy(results):
    section = results["accuracy"]
    rows = [
        [
            _bold(row["name"]),
            f"{row['mean_cosine']:.5f}",
            f"{row['worst_cosine']:.4f}",
            f"{row['spearman_lee']:.4f}",
            f"{row['bytes'] / 1e6:.1f}",
        ]
        for row in section["rows"]
    ]
    columns = ["accuracy", "mean cosine", "worst cosine", "Spearman on Lee", "size, MB"]
    yield _table(columns, rows)


def draw(results, path):
    """Draws the latency of one thread against the length, float32 and int8 side by side."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import (
        FixedLocator,
        LogLocator,
        NullFormatter,
        NullLocator,
        StrMethodFormatter,
    )

    if "latency" not in results:
        return
    section = results["latency"]
    shapes = section["threads"]["1"]
    lengths = [shape for shape in shapes if "x" not in shape]
    figure = Figure(figsize=(13, 6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axes, arithmetic in zip(panels, ("float32", "int8"), strict=True):
        x = [int(length) for length in lengths]
        names = [n for n, dtype in section["arithmetic"].items() if dtype == arithmetic]
        for index, name in enumerate(names):
            y = [shapes[length]["ms"][name] for length in lengths]
            mine = name.startswith(OURS)
            style = {"linewidth": 2.4, "linestyle": "-"} if mine else {"linestyle": "--"}
            axes.plot(x, y, marker="osD^vP*X"[index % 8], label=name, **style)
        y = [shapes[length]["limit_ms"][arithmetic] for length in lengths]
        axes.plot(x, y, color="black", linestyle=":", label="limit: matrix products alone")
        axes.set(xscale="log", yscale="log", xlabel="sequence length, tokens")
        axes.set(ylabel="median latency, ms", title=f"dense layers in {arithmetic}, 1 thread")
        axes.xaxis.set_major_locator(FixedLocator(x))
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.grid(which="both", alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
