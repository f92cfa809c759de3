"""Tables for the terminal, as plain text: no cell is read as markup or holds emoji codes."""

import dataclasses
import itertools
import os
import pathlib
import re

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from keras_addnorm.export.inspect import read_contents
from keras_addnorm.export.metadata.read import read_metadata
from keras_addnorm.export.runtime import open_model
from keras_addnorm.export.signature import TensorSpec
from keras_addnorm.files import size_and_digest

SEVERITY_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold"}
MOST_LAYERS = 3  # of a finding, in the table; JSON has them all


def megabytes(size):
    """A size in bytes as millions of bytes, for people."""
    return f"{size / 1e6:.2f} MB"


def _facts(title, rows):
    table = Table(title=Text(title), show_header=False, title_justify="left")
    for name, value in rows:
        # Folded, not cut: a digest that ends in dots is of no use.
        table.add_row(Text(name), Text(str(value), overflow="fold"))
    return table


def _shape(spec):
    sizes = ", ".join("any" if size is None else str(size) for size in spec.shape)
    return f"{spec.name}: {spec.dtype} ({sizes})"


def _signature(inputs, outputs):
    yield from (("input", _shape(spec)) for spec in inputs)
    yield from (("output", _shape(spec)) for spec in outputs)


def _contents(operators, weight_types):
    if operators:
        common = sorted(operators.items(), key=lambda item: -item[1])
        yield "operators", f"{sum(operators.values())}: " + ", ".join(f"{n} {o}" for o, n in common)
    if weight_types:
        yield "weights", ", ".join(f"{k} {megabytes(v)}" for k, v in weight_types.items())


def report_table(report):
    """An `ExportReport` as a table."""
    rows = [
        ("format", f"{report.format}, {report.quantization}"),
        ("size", megabytes(report.bytes)),
        *_signature(report.inputs, report.outputs),
        *_contents(report.operators, report.weight_types),
    ]
    if report.xnnpack_partitions is not None:
        rows.append(("XNNPACK partitions", report.xnnpack_partitions))
    if report.folded:
        rules = (f"{count} {name.replace('_', ' ')}" for name, count in report.folded.items())
        rows.append(("folded constants", ", ".join(rules)))
    for name, d in report.verification.items():
        text = f"max abs error {d.max_abs_error:.1e}, cosine at least {d.min_cosine:.6f}"
        rows.append((f"verified {name}", text))
    if report.text is not None:
        rows.extend(_text_rows(report.text))
    rows.append(("time", f"{report.seconds:.1f} s"))
    return _facts(str(report.path), rows)


def _text_rows(text):
    yield "signatures", ", ".join(text["signatures"])
    if text["no_text_because"]:
        yield "takes no strings", text["no_text_because"]
    if "texts" in text:
        yield "verified ids", f"equal to the tokenizer's on {text['texts']} texts"
    for name, d in text.get("verification", {}).items():
        yield f"verified {name} of strings", f"max abs error {d.max_abs_error:.1e}"


def differences_table(differences):
    """A dict of `OutputDifference` as a table."""
    table = Table("output", "vectors", "max abs error", "min cosine", "mean cosine")
    for name, d in differences.items():
        error, low, mean = f"{d.max_abs_error:.1e}", f"{d.min_cosine:.6f}", f"{d.mean_cosine:.6f}"
        table.add_row(Text(name), str(d.vectors), error, low, mean)
    return table


def file_facts(path):
    """What is in an exported model, as a dict."""
    model = open_model(path)
    size, digest = size_and_digest(path)
    facts = {
        "bytes": size,
        "sha256": digest,
        "inputs": [dataclasses.asdict(spec) for spec in model.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in model.outputs],
    }
    if pathlib.Path(path).is_file():
        contents = read_contents(path)
        facts["operators"] = contents.operators
        facts["weight_types"] = contents.weight_types
        facts["xnnpack_partitions"] = model.partitions
        facts["metadata"] = read_metadata(path)
    return facts


def file_table(path, facts):
    """`file_facts` as a table."""
    specs = ([TensorSpec(**spec) for spec in facts[name]] for name in ("inputs", "outputs"))
    rows = [("size", megabytes(facts["bytes"])), ("sha256", facts["sha256"]), *_signature(*specs)]
    if "operators" in facts:
        rows += _contents(facts["operators"], facts["weight_types"])
        rows.append(("XNNPACK partitions", facts["xnnpack_partitions"]))
        rows += _metadata(facts["metadata"])
    return _facts(str(path), rows)


def _metadata(facts):
    """Rows of what `read_metadata` returned."""
    for name, value in facts.items():
        if name == "files":
            value = ", ".join(f"{file} {megabytes(size)}" for file, size in value.items())
        elif name == "tokenizer":
            of = f", {value['tokens']} tokens in {value['vocabulary']}" if "tokens" in value else ""
            value = value["type"] + of
        elif isinstance(value, list):
            value = ", ".join(value)
        yield f"metadata: {name}", value


def model_table(description):
    """A `ModelDescription` as a table."""
    d = description
    rows = [("class", d.model_class)]
    rows += [("layers", d.layers)] if d.layers is not None else []
    rows.append(("parameters", f"{d.parameters:,}"))
    for name, number in d.parts.items():
        rows.append((f"  {name}", f"{number:,} ({number / max(d.parameters, 1):.1%})"))
    rows.append(("embedding share", f"{d.embedding_share:.1%}"))
    for length, number in d.flops.items():
        of = "an image" if length is None else f"a sequence of {length}"
        rows.append((f"FLOPs of {of}", f"{number / 1e9:.3f} G"))
    return _facts(d.name, [*rows, *d.config.items()])


def saved_table(facts):
    """What `keras-addnorm import` wrote, as a table."""
    rows = {**facts, "parameters": f"{facts['parameters']:,}", "bytes": megabytes(facts["bytes"])}
    return _facts(facts["path"], [(k, v) for k, v in rows.items() if k != "path"])


def findings_table(path, findings):
    """What `lint_file` found in the file at `path`, as a table."""
    table = Table(title=Text(str(path)), title_justify="left", show_lines=True, expand=True)
    table.add_column("found", ratio=1, overflow="fold")
    table.add_column("what it costs, and what to do", ratio=1, overflow="fold")
    shared = _shared_path([layer for finding in findings for layer in finding.layers])
    for finding in findings:
        times = f" ({finding.count} times)" if finding.count > 1 else ""
        found = Text(f"{finding.severity} {finding.rule}", SEVERITY_STYLES[finding.severity])
        found.append(f"\n{finding.message}{times}", "default")
        # Layers of a stack differ by their number only: one pattern stands for them.
        layers = [re.sub(r"\d+", "*", layer.removeprefix(shared)) for layer in finding.layers]
        layers = [*dict.fromkeys(layers)]
        for layer in layers[:MOST_LAYERS]:
            found.append(f"\nin {layer}", "dim")
        if len(layers) > MOST_LAYERS:
            found.append(f"\nand {len(layers) - MOST_LAYERS} more", "dim")
        table.add_row(found, Text(f"{finding.cost}\n{finding.fix}"))
    return table


def _shared_path(layers):
    """The folders that all paths of layers start with: the model's name, which says nothing."""
    parents = [layer.split("/")[:-1] for layer in layers if "/" in layer]
    return "".join(f"{part}/" for part in os.path.commonprefix(parents))


def presets_table(facts):
    """`registry.preset_facts` as a table."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("name", "family", "parameters", "licence", "paper", "weights"):
        table.add_column(column, no_wrap=column != "weights", overflow="fold")
    for row in facts:
        millions = f"{row['parameters'] / 1e6:.1f} M"
        license, source = row["license"] or "", row["source"] or ""
        cells = (row["name"], row["family"], millions, license, row["paper"], source)
        table.add_row(*map(Text, cells))
    return table


def similarity_table(texts, embeddings):
    """Cosine similarities of all pairs of texts, the most similar pair first.

    Args:
        texts: list of strings.
        embeddings: dict of arrays `(len(texts), features)` by column title; the first one sorts.
    """
    columns = {}
    for title, vectors in embeddings.items():
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        columns[title] = unit @ unit.T
    first = next(iter(columns.values()))
    pairs = sorted(itertools.combinations(range(len(texts)), 2), key=lambda pair: -first[pair])
    table = Table("text", "text", title="cosine similarity", title_justify="left")
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for i, j in pairs:
        values = [f"{similarity[i, j]:.3f}" for similarity in columns.values()]
        table.add_row(Text(texts[i]), Text(texts[j]), *values)
    return table
