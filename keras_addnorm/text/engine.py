"""A .tflite file on many rows of token ids, in as many interpreters as there are threads."""

import contextlib
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_addnorm.text.bundle import MAX_LENGTH, MAX_MODEL_BYTES
from keras_addnorm.text.errors import BundleError
from keras_addnorm.text.fields import BROKEN

# The inputs that texts have, and what they hold at padded positions; None is the padding token.
INPUTS = {"token_ids": None, "padding_mask": 0, "segment_ids": 0}
MAX_SIGNATURES, MAX_BATCH = 64, 4096
OPEN_BATCH = 8  # rows at once where a file takes any number
CHUNK = 16  # runs that a thread takes at once


@dataclasses.dataclass(frozen=True)
class Signature:
    """One way to call the file.

    Attributes:
        name: str.
        length: int, tokens of its inputs, or None for any number.
        batch_size: int, rows of its inputs, or None for any number.
        inputs: names, keys of `INPUTS`.
        output: name of the output.
        features: int, the size of a row of the output.
    """

    name: str
    length: int | None
    batch_size: int | None
    inputs: tuple
    output: str
    features: int


def read_signatures(fields):
    """The signatures that a manifest's section `model` describes, the shortest first.

    Raises:
        BundleError: if there is one that no text can be run with.
    """
    found = [_signature(item) for item in fields.sections("signatures", MAX_SIGNATURES)]
    if len(found) > 1 and len({s.length for s in found} - {None}) < len(found):
        raise fields.error("must have signatures of different lengths")
    return sorted(found, key=lambda signature: signature.length or 0)


def _signature(fields):
    length = fields.whole("length", 1, MAX_LENGTH, optional=True)
    batch_size = fields.whole("batch_size", 1, MAX_BATCH, optional=True)
    inputs = [(item.get("name", str), item) for item in fields.sections("inputs", len(INPUTS))]
    names = tuple(name for name, _ in inputs)
    if "token_ids" not in names or set(names) - INPUTS.keys() or len(set(names)) < len(names):
        raise fields.error(f"must take token_ids, and besides only {list(INPUTS)[1:]}")
    if length is not None and "padding_mask" not in names:
        raise fields.error("has a fixed length, so it must take a padding_mask")
    for name, item in inputs:
        if item.get("dtype", str) != "int32" or item.sizes("shape") != (batch_size, length):
            raise fields.error(f"must take {name} as int32 of shape [{batch_size}, {length}]")
    (output,) = fields.sections("outputs", 1)
    shape = output.sizes("shape")
    ok = len(shape) == 2 and shape[1] is not None and 0 < shape[1] <= MAX_LENGTH
    if not ok or output.get("dtype", str) != "float32":
        raise output.error("must be float32 of shape [batch, features]")
    name = fields.get("name", str)
    return Signature(name, length, batch_size, names, output.get("name", str), shape[1])


class Engine:
    """Runs rows of token ids of any lengths through a model.

    Args:
        data: bytes of a .tflite file, which all interpreters share.
        signatures: what `read_signatures` returned.
        pad_id: int, the id of the padding token.
        num_threads: int, how many rows are computed at once, each by an interpreter on one thread.

    Raises:
        BundleError: if the file cannot be run, or does not have these signatures.
    """

    def __init__(self, data, signatures, pad_id, num_threads):
        if len(data) > MAX_MODEL_BYTES:
            raise BundleError(
                f"A model must not be larger than {MAX_MODEL_BYTES} bytes. Received: {len(data)}. "
                "Export it with a recipe that makes it smaller."
            )
        self._data, self._pad_id, self._num_threads = data, pad_id, num_threads
        self._signatures = signatures
        self._features = signatures[0].features
        # Interpreters that no thread is using, the one used last on top; the rest are not made yet.
        self._free, self._lock = [], threading.Lock()
        self._slots = threading.BoundedSemaphore(num_threads)
        with self._interpreter():  # Made now, so that a broken file is known now.
            pass

    def __call__(self, rows, type_ids):
        """Computes the outputs of rows.

        Args:
            rows: list of lists of token ids, of at most as many as fit.
            type_ids: list of lists of segment ids, as long as the rows.

        Returns:
            float32 array `(len(rows), features)`.
        """
        outputs = np.empty((len(rows), self._features), "float32")
        # A text may have no token at all: then there is one position, of padding.
        runs = self._plan([max(len(row), 1) for row in rows])

        def compute(start):
            with self._interpreter() as runners:
                for signature, length, indices in runs[start : start + CHUNK]:
                    inputs = self._inputs(signature, length, indices, rows, type_ids)
                    result = runners[signature.name](**inputs)[signature.output]
                    # A view of memory that the next run overwrites: copied here.
                    outputs[indices] = result[: len(indices)]
                    del result

        starts = range(0, len(runs), CHUNK)
        if self._num_threads == 1 or len(starts) < 2:
            for start in starts:
                compute(start)
        else:
            with ThreadPoolExecutor(min(self._num_threads, len(starts))) as pool:
                for _ in pool.map(compute, starts):
                    pass
        return outputs

    def _plan(self, lengths):
        """`(signature, length, indices)` of each run; those of one length follow each other.

        An interpreter plans its memory anew when the length changes. The longest come first, so
        that no thread has much to do when the others are done.
        """
        runs, group = [], []
        order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
        for index, following in zip(order, [*order[1:], None], strict=True):
            group.append(index)
            signature = self._choose(lengths[group[0]])
            full = len(group) == (signature.batch_size or OPEN_BATCH)
            if full or following is None or self._must_split(signature, lengths, group, following):
                runs.append((signature, signature.length or lengths[group[0]], group))
                group = []
        return runs

    def _must_split(self, signature, lengths, group, following):
        """Whether the row that follows cannot be padded into the group."""
        if signature.length is not None:
            return self._choose(lengths[following]) is not signature
        # One batch of texts of different lengths would compute padding as well.
        return lengths[following] != lengths[group[0]]

    def _choose(self, length):
        fitting = (s for s in self._signatures if s.length is None or s.length >= length)
        return next(fitting)

    def _inputs(self, signature, length, indices, rows, type_ids):
        count = signature.batch_size or len(indices)
        arrays = {
            name: np.full((count, length), self._pad_id if value is None else value, "int32")
            for name, value in INPUTS.items()
            if name in signature.inputs
        }
        # A file of a fixed batch gets its first row again where there are too few.
        for row in range(count):
            index = indices[row] if row < len(indices) else indices[0]
            size = len(rows[index])
            arrays["token_ids"][row, :size] = rows[index]
            if "padding_mask" in arrays:
                arrays["padding_mask"][row, :size] = 1
            if "segment_ids" in arrays:
                arrays["segment_ids"][row, :size] = type_ids[index]
        return arrays

    @contextlib.contextmanager
    def _interpreter(self):
        """The signature runners of an interpreter that no other thread has meanwhile."""
        with self._slots:
            with self._lock:
                runners = self._free.pop() if self._free else None
            runners = runners or self._load()
            try:
                yield runners
            finally:
                with self._lock:
                    self._free.append(runners)

    def _load(self):
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_content=self._data, num_threads=1)
            described = interpreter.get_signature_list()
            self._compare(described)
            runners = {s.name: interpreter.get_signature_runner(s.name) for s in self._signatures}
            for signature in self._signatures:
                _check_features(runners[signature.name], signature)
            return runners
        except (ValueError, RuntimeError) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"LiteRT cannot load the model: {error}. {BROKEN}") from error

    def _compare(self, described):
        for signature in self._signatures:
            found = described.get(signature.name, {"inputs": None, "outputs": None})
            same = set(found["inputs"] or ()) == set(signature.inputs)
            if not same or found["outputs"] != [signature.output]:
                raise BundleError(
                    f"The model has no signature {signature.name!r} with the inputs "
                    f"{sorted(signature.inputs)} and the output {signature.output!r}. {BROKEN}"
                )


def _check_features(runner, signature):
    found = runner.get_output_details()[signature.output]["shape"][-1]
    if found != signature.features:
        raise BundleError(
            f"The model's output {signature.output!r} has {found} features, not "
            f"{signature.features}. {BROKEN}"
        )
