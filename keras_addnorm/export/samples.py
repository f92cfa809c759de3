"""Inputs to verify an exported model with: ids in range, real sentences, padded rows."""

import inspect
import os

import keras
import numpy as np

from keras_addnorm.layers import (
    LearnedPositionEncoding,
    RelativeEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    SinusoidalPositionEncoding,
    TokenAndPositionEmbedding,
)
from keras_addnorm.models.text_preprocessor import TextPreprocessor

SENTENCES = (
    "A cat sits on the mat.",
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Stock markets fell sharply on Monday after the central bank raised interest rates again.",
    "How do I reset my password?",
    "Water boils at 100 degrees Celsius at sea level, but at a lower temperature in the mountains.",
    "Yes.",
    "The museum, which reopened last spring after two years of repairs, now holds more than four "
    "thousand paintings, most of them by artists of the nineteenth century.",
    "She said she'd be late; he didn't mind.",
    "Version 2.0 adds support for GPUs, fixes 14 bugs and drops Python 3.8.",
    "Il pleut beaucoup à Brest.",
    "Thanks!",
    "Photosynthesis turns carbon dioxide and water into sugar and oxygen, using light.",
)


# Texts that calibration looks at, tokens of all and of one, and the bytes of a file, at most.
MAX_TEXTS, MAX_TOKENS, MAX_CALIBRATION_LENGTH, MAX_TEXT_BYTES = 1024, 2**16, 256, 2**28

# What positions, counted along an input, are called among the names of inputs.
POSITIONS = "positions along an axis"


def make_samples(model, inputs, lengths, rows=12, seed=0):
    """Makes input dicts for a model, one for each length.

    Where the model has a preprocessor, the rows are real sentences, and two rows of random ids
    without padding; otherwise ids are random, and all rows but the first are padded at the end.

    Args:
        model: the Keras model.
        inputs: list of `TensorSpec`.
        lengths: lengths to fill open axes with; fixed axes stay as they are.
        rows: int, batch of each dict.
        seed: int.

    Returns:
        List of dicts of arrays.
    """
    rng = np.random.default_rng(seed)
    samples = [_random_ids(model, inputs, length, rows, rng) for length in lengths]
    for sample in samples:
        _fill_with_text(model, sample)
    return samples


def calibration_samples(model, inputs, calibration=None):
    """Makes inputs to choose the ranges and roundings of a quantized file by.

    Args:
        model: the Keras model.
        inputs: list of `TensorSpec` of the exported file.
        calibration: path of a text file with a text a line; a list of strings, which the model's
            own tokenizer turns into ids (of more than 1024 texts or 65,536 tokens, those at equal
            distances); a list of dicts of arrays by input name; or None for `SENTENCES` (without a
            tokenizer: random ids).

    Returns:
        List of dicts of arrays, each of one batch: texts as long as they are, where the length is
        open, else padded to the file's length.

    Raises:
        ValueError: if there is nothing to calibrate with, or no tokenizer for texts.
    """
    entries = (
        _read_lines(calibration) if isinstance(calibration, (str, os.PathLike)) else calibration
    )
    preprocessor = getattr(model, "preprocessor", None)
    names = {spec.name for spec in inputs}
    if entries is None and not (hasattr(preprocessor, "tokenizer") and "token_ids" in names):
        longest = longest_sequence(model) or 64
        lengths = [min(length, longest) for length in (16, 64)]
        return make_samples(model, inputs, sorted(set(lengths)))
    entries = [x for x in (SENTENCES if entries is None else entries) if not _is_blank(x)]
    kinds = {type(entry) for entry in entries}
    if not entries or kinds not in ({str}, {dict}):
        raise ValueError(
            "`calibration` must be the path of a text file, a list of strings, or a list of dicts "
            f"of arrays by input name. Received: {len(entries)} entries of types "
            f"{sorted(kind.__name__ for kind in kinds)}."
        )
    if kinds == {dict}:
        return _checked_dicts(entries, names)
    if not hasattr(preprocessor, "tokenizer"):
        raise ValueError(
            "`calibration` by texts needs a model with a tokenizer. Received: texts, for "
            f"{model.name!r}, which has none. Pass a list of dicts of arrays by input name."
        )
    count = min(len(entries), MAX_TEXTS)
    texts = [entries[i * len(entries) // count] for i in range(count)]
    return _tokenized(model, preprocessor, inputs, texts)


def _is_blank(entry):
    return isinstance(entry, str) and not entry.strip()


def _read_lines(path):
    try:
        size = os.path.getsize(path)
        if size > MAX_TEXT_BYTES:
            raise ValueError(
                f"A calibration text is at most {MAX_TEXT_BYTES} bytes. Received: {path} with "
                f"{size}. Cut it: {MAX_TEXTS} lines are used."
            )
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`calibration` must be a UTF-8 text file with a text a line: {path} cannot be read: "
            f"{error}."
        ) from error


def _checked_dicts(entries, names):
    for entry in entries:
        if missing := names - entry.keys():
            raise ValueError(
                f"Each dict of `calibration` holds arrays for the inputs {sorted(names)}. "
                f"Received: one without {sorted(missing)}. Add them."
            )
    return [{name: np.asarray(entry[name]) for name in names} for entry in entries]


def _tokenized(model, preprocessor, inputs, texts):
    """One dict a text: as long as it is where the file's length is open, and padded where not."""
    fixed = next(spec.shape[1] for spec in inputs if spec.name == "token_ids")
    limit = min(longest_sequence(model) or MAX_CALIBRATION_LENGTH, MAX_CALIBRATION_LENGTH)
    encoded = tokenize(preprocessor, texts, fixed or limit)
    batch = next(spec.shape[0] for spec in inputs if spec.name == "token_ids") or 1
    tokens = encoded.get("padding_mask", np.ones_like(encoded["token_ids"])).sum()
    used = np.arange(len(texts))[:: max(-(-int(tokens) // MAX_TOKENS), 1)]
    samples = []
    for start in range(0, len(used), batch):
        rows = used[np.arange(start, start + batch) % len(used)]
        sample = {spec.name: encoded[spec.name][rows] for spec in inputs if spec.name in encoded}
        if fixed is None:
            longest = max(int(encoded["padding_mask"][rows].sum(axis=-1).max()), 1)
            sample = {name: value[:, :longest] for name, value in sample.items()}
        samples.append(sample)
    return samples


def at_length(sample, lengths):
    """A sample padded to the shortest of some lengths that it fits in, or cut; itself for None."""
    if lengths is None:
        return sample
    size = max(value.shape[1] for value in sample.values())
    length = min((n for n in lengths if n >= size), default=max(lengths))
    pad = [(0, 0), (0, max(length - size, 0))]
    return {name: np.pad(value, pad)[:, :length] for name, value in sample.items()}


def _random_ids(model, inputs, length, rows, rng):
    limits = id_limits(model)
    sample = {}
    for spec in inputs:
        shape = (rows, *(length if size is None else size for size in spec.shape[1:]))
        positions = "position" in spec.name  # `mask_positions` of a masked language model
        if "mask" in spec.name and not positions and spec.dtype == "int32":
            sample[spec.name] = _padding(shape, rng)
        elif spec.dtype == "int32":
            limit = limits.get(spec.name, shape[-1] if positions else 2)
            sample[spec.name] = rng.integers(0, limit, shape, dtype="int32")
        else:
            sample[spec.name] = rng.standard_normal(shape, dtype="float32")
    return sample


def _padding(shape, rng):
    """1 for real positions, 0 for padding at the end; the first row is not padded."""
    longest = shape[-1]
    real = rng.integers(1, longest + 1, shape[:-1])
    real.flat[0] = longest
    return (np.arange(longest) < real[..., None]).astype("int32")


def _fill_with_text(model, sample):
    preprocessor = getattr(model, "preprocessor", None)
    # A preprocessor that masks tokens chooses how many; random positions do as well.
    if preprocessor is None or "token_ids" not in sample or "mask_positions" in sample:
        return
    rows, length = sample["token_ids"].shape
    count = min(len(SENTENCES), rows - 2)
    if isinstance(preprocessor, TextPreprocessor):
        if length <= preprocessor.tokenizer.num_special_tokens():
            return  # No room for text: the ids stay random.
    encoded = tokenize(preprocessor, SENTENCES[:count], length)
    for name in sample.keys() & encoded.keys():
        sample[name][-count:] = encoded[name]


def tokenize(preprocessor, texts, length):
    """Runs a preprocessor, ours or KerasHub's, at another length; int32 arrays by input name."""
    if isinstance(preprocessor, TextPreprocessor):
        return preprocessor.tokenize(list(texts), length)
    config = preprocessor.get_config()
    tokenizer = preprocessor.tokenizer
    arguments = {k: v for k, v in config.items() if k not in ("tokenizer", "sequence_length")}
    at_length = type(preprocessor)(tokenizer=tokenizer, sequence_length=length, **arguments)
    encoded = at_length(list(texts))
    return {n: keras.ops.convert_to_numpy(v).astype("int32") for n, v in encoded.items()}


def longest_sequence(model):
    """The longest sequence that a model's position encodings know, or None where it has none."""
    from keras_hub.layers import PositionEmbedding

    ours = (
        LearnedPositionEncoding,
        RelativeEmbedding,
        RelativePositionBias,
        RotaryEmbedding,
        SinusoidalPositionEncoding,
    )
    limits = [
        layer.max_sequence_length if isinstance(layer, ours) else layer.sequence_length
        for layer in model._flatten_layers()
        if isinstance(layer, (*ours, PositionEmbedding))
    ]
    limits += [size for name, size in id_limits(model).items() if name == POSITIONS]
    return min(limits, default=None)


def id_limits(model):
    """Number of rows of the smallest embedding that each integer input indexes, by its name.

    Follows the inputs through the graph: through nested models, layers used more than once, and
    whatever turns integers into integers (casts, reshapes). An input that is not in the result
    reaches no embedding that can be found. `ones_like` keeps nothing of an input but its shape:
    numbers that are made from it are positions, and their limit is that of `POSITIONS`.
    """
    limits = {}
    graph = _graph(model)
    _follow(graph, {id(tensor): tensor.name for tensor in graph.inputs}, limits)
    return limits


def _graph(layer):
    """A model's own graph: of a Sequential the functional model inside."""
    return getattr(layer, "_functional", None) or layer


def _follow(model, names, limits):
    """Adds to `limits` what the tensors of one graph meet; `names` are inputs' by tensor id."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            layer, found = node.operation, [names.get(id(t)) for t in node.input_tensors]
            if type(layer).__name__ == "OnesLike":
                found = [POSITIONS]
            if node.is_input or not any(found):
                continue
            layer = _graph(layer)
            if hasattr(layer, "_nodes_by_depth"):
                inner = zip(layer.inputs, found, strict=False)
                _follow(layer, {id(t): name for t, name in inner if name}, limits)
                continue
            for tensor, size in _indexed(node):
                name = names.get(id(tensor))
                if name and size:
                    limits[name] = min(size, limits.get(name, size))
            for tensor in node.outputs:
                if "int" in keras.backend.standardize_dtype(tensor.dtype):
                    names[id(tensor)] = next(filter(None, found))


def _indexed(node):
    """The tensors of a layer's call that index tables, each with the rows of its table."""
    layer, arguments = node.operation, node.arguments
    if isinstance(layer, TokenAndPositionEmbedding):
        bound = inspect.signature(layer.call).bind(*arguments.args, **arguments.kwargs).arguments
        sizes = {"token_ids": layer.vocabulary_size, "segment_ids": layer.num_segments}
        return [(bound.get(name), size) for name, size in sizes.items()]
    layers = layer._flatten_layers() if isinstance(layer, keras.Layer) else ()
    rows = (x.input_dim for x in layers if isinstance(x, keras.layers.Embedding))
    return [(node.input_tensors[0], min(rows, default=0))]
