"""Running exported files, the way a client does: LiteRT's interpreter and TensorFlow's loader."""

import pathlib
import threading

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.signature import SIGNATURE, TensorSpec


class LiteRTModel:
    """A .tflite file in LiteRT's interpreter; built-in ops and the XNNPACK delegate only.

    Attributes:
        inputs, outputs: lists of `TensorSpec`.
        lengths: ints, those of the signatures where these have fixed lengths; else empty.
        signatures: dict of pairs `(inputs, outputs)`, lists of `TensorSpec`, by signature name.
        partitions: int, how many pieces of the graph the XNNPACK delegate took over.

    Raises:
        ExportError: if the file is no TFLite model, or needs ops that LiteRT does not have.
    """

    def __init__(self, path, num_threads=None):
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            self._interpreter.allocate_tensors()
            names = list(self._interpreter.get_signature_list()) or [None]
            runners = [self._interpreter.get_signature_runner(name) for name in names]
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"LiteRT cannot load {path}: {error}") from error
        inputs = [_specs(runner.get_input_details()) for runner in runners]
        outputs = [_specs(runner.get_output_details()) for runner in runners]
        self._runners = dict(zip(map(length_of, inputs), runners, strict=True))
        self.inputs, self.outputs = _over_lengths(inputs), _over_lengths(outputs)
        self.signatures = dict(zip(names, zip(inputs, outputs, strict=True), strict=True))
        self.lengths = tuple(sorted(n for n in self._runners if n is not None))
        # An interpreter has one set of buffers: two calls at once would mix their numbers.
        self._lock = threading.Lock()
        operators = [op["op_name"] for op in self._interpreter._get_ops_details()]
        self.partitions = operators.count("DELEGATE")

    def __call__(self, inputs):
        """Computes a dict of arrays from a dict of arrays, one batch of the file's size a time.

        Of several signatures, that of the arrays' length runs.
        """
        runner = self._runner(inputs)

        def run(part):
            with self._lock:
                # The runner's arrays are views of memory that the next call overwrites.
                return {name: np.array(value) for name, value in runner(**part).items()}

        return _in_batches(run, inputs, self.inputs[0].shape[0])

    def _runner(self, inputs):
        if len(self._runners) == 1:
            return next(iter(self._runners.values()))
        length = next((x.shape[1] for x in inputs.values() if x.ndim > 1), None)
        if length not in self._runners:
            raise ExportError(
                f"The file has signatures for the lengths {list(self.lengths)}. Received: inputs "
                f"of length {length}. Pad them to one of these."
            )
        return self._runners[length]


def length_of(specs):
    """The length that a signature is for, or None for any."""
    return next((spec.shape[1] for spec in specs if len(spec.shape) > 1), None)


def _over_lengths(signatures):
    """The specs of several signatures as one, None where their sizes differ."""

    def over(specs):
        axes = zip(*(spec.shape for spec in specs), strict=True)
        shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in axes)
        return TensorSpec(specs[0].name, shape, specs[0].dtype)

    return [over(specs) for specs in zip(*signatures, strict=True)]


def _in_batches(run, inputs, batch):
    """Runs a function of a dict of arrays on so many rows a time, or, for None, on all."""
    rows = len(next(iter(inputs.values())))
    step = rows if batch is None else batch
    parts = [
        run({name: _rows(value, start, step) for name, value in inputs.items()})
        for start in range(0, rows, step)
    ]
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}


def _rows(value, start, step):
    """Rows `start` to `start + step`, the last one repeated where there are too few."""
    part = value[start : start + step]
    return np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])


def _specs(details):
    return [
        TensorSpec(
            name,
            tuple(None if size < 0 else int(size) for size in detail["shape_signature"]),
            np.dtype(detail["dtype"]).name,
        )
        for name, detail in sorted(details.items())
    ]


class SavedModel:
    """A SavedModel directory, through `tf.saved_model.load` and its serving signature.

    Attributes:
        inputs, outputs: lists of `TensorSpec`.
        lengths: the fixed length, if there is one.
        signatures: dict of functions by name.

    Raises:
        ExportError: if the directory is no SavedModel with a serving signature.
    """

    partitions = None

    def __init__(self, path):
        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(str(path))
            self.signatures = dict(self._loaded.signatures)
            self._function = self.signatures[SIGNATURE]
        except (OSError, ValueError, KeyError) as error:
            raise ExportError(f"TensorFlow cannot load {path}: {error}") from error
        specs = self._function.structured_input_signature[1]
        self.inputs = [_tf_spec(name, spec) for name, spec in sorted(specs.items())]
        length = length_of(self.inputs)
        self.lengths = () if length is None else (length,)
        outputs = self._function.structured_outputs
        self.outputs = [_tf_spec(name, spec) for name, spec in sorted(outputs.items())]

    def __call__(self, inputs):
        """Computes a dict of arrays from a dict of arrays, one batch of a fixed size a time."""
        import tensorflow as tf

        def run(part):
            outputs = self._function(**{name: tf.constant(x) for name, x in part.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        batch = self.inputs[0].shape[0] if self.inputs[0].shape else None
        return run(inputs) if batch is None else _in_batches(run, inputs, batch)


def _tf_spec(name, spec):
    return TensorSpec(name, tuple(spec.shape.as_list()), spec.dtype.name)


def open_model(path):
    """Opens a .tflite file or a SavedModel directory.

    Raises:
        ExportError: if `path` is neither.
    """
    path = pathlib.Path(path)
    if path.is_file() and path.suffix == ".tflite":
        return LiteRTModel(path)
    if (path / "saved_model.pb").is_file():
        return SavedModel(path)
    raise ExportError(
        "An exported model is a .tflite file or a SavedModel directory. "
        f"Received: {path}{'' if path.exists() else ', which does not exist'}."
    )
