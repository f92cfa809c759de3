"""What the metadata of a .tflite file says, of any file that anything made."""

import mmap

from keras_addnorm.export.metadata import ENTRY, FIELDS, schema
from keras_addnorm.export.metadata.archive import list_files
from keras_addnorm.export.reader import printable, read_model

MOST_BYTES = 2**24  # of a file with labels or a vocabulary
MOST_LABELS = 1000


def read_metadata(path):
    """Reads the metadata of a .tflite file.

    Args:
        path: the file.

    Returns:
        Dict, empty where there is no metadata: the strings of `FIELDS`, `inputs` and `outputs`
        (lists of names, in the file's order), `tokenizer` (dict of `type`, `vocabulary` and
        `tokens`), `labels` (list) and `files` (dict of sizes in bytes); each only where it is
        there. `problem` says what is broken, if something is.

    Raises:
        ExportError: if it is no TFLite model.
    """
    data = read_model(path).metadata.get(ENTRY)
    if data is None:
        return {}
    facts = {}
    try:
        value = schema.unpack(memoryview(data).tobytes())
        facts.update({name: printable(value[name]) for name in FIELDS if name in value})
        with open(path, "rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                facts.update(_details(value, whole))
    except ValueError as error:
        facts["problem"] = str(error)
    return facts


def _details(value, data):
    files = list_files(data)
    graphs = value.get("subgraph_metadata") or [{}]
    inputs = graphs[0].get("input_tensor_metadata", [])
    outputs = graphs[0].get("output_tensor_metadata", [])
    names = {"inputs": inputs, "outputs": outputs}
    yield from ((side, [_name(x) for x in tensors]) for side, tensors in names.items() if tensors)
    units = [*graphs[0].get("input_process_units", [])]
    units += [unit for tensor in inputs for unit in tensor.get("process_units", [])]
    options = (unit.get("options", ("", {})) for unit in units)
    for kind, value in [x for x in options if x[0].endswith("TokenizerOptions")][:1]:
        yield "tokenizer", _tokenizer(kind, value, files, data)
    labels = [f for t in outputs for f in t.get("associated_files", []) if f.get("type") == 2]
    if labels:
        text = _text(labels[0].get("name"), files, data)
        yield "labels", [printable(line) for line in text.split("\n", MOST_LABELS)[:MOST_LABELS]]
    if files:
        yield "files", {printable(name): size for name, (_, size) in files.items()}


def _name(table):
    return printable(table.get("name", ""))


def _tokenizer(kind, options, files, data):
    found = {"type": kind.removesuffix("Options")}
    vocabularies = options.get("vocab_file") or []
    if vocabularies:
        found["vocabulary"] = _name(vocabularies[0])
        found["tokens"] = _text(vocabularies[0].get("name"), files, data).count("\n") + 1
    return found


def _text(name, files, data):
    """A file in the archive, without the end of its last line."""
    if name not in files:
        raise ValueError(f"the file {printable(str(name))!r} is missing")
    start, size = files[name]
    if size > MOST_BYTES:
        raise ValueError(f"{printable(name)!r} has {size:,} bytes, more than {MOST_BYTES:,}")
    return bytes(data[start : start + size]).decode(errors="replace").removesuffix("\n")
