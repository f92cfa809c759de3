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
        partitions: int, how many pieces of the graph the XNNPACK delegate took over.

    Raises:
        ExportError: if the file is no TFLite model, or needs ops that LiteRT does not have.
    """

    def __init__(self, path, num_threads=None):
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            self._interpreter.allocate_tensors()
            self._runner = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"LiteRT cannot load {path}: {error}") from error
        self.inputs = _specs(self._runner.get_input_details())
        self.outputs = _specs(self._runner.get_output_details())
        # An interpreter has one set of buffers: two calls at once would mix their numbers.
        self._lock = threading.Lock()
        names = [op["op_name"] for op in self._interpreter._get_ops_details()]
        self.partitions = names.count("DELEGATE")

    def __call__(self, inputs):
        """Computes a dict of arrays from a dict of arrays, one batch of the file's size a time."""
        batch = self.inputs[0].shape[0]
        rows = len(next(iter(inputs.values())))
        step = rows if batch is None else batch
        parts = []
        for start in range(0, rows, step):
            part = {name: _rows(value, start, step) for name, value in inputs.items()}
            with self._lock:
                # The runner's arrays are views of memory that the next call overwrites.
                parts.append({k: np.array(v) for k, v in self._runner(**part).items()})
        return {k: np.concatenate([part[k] for part in parts])[:rows] for k in parts[0]}


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

    Raises:
        ExportError: if the directory is no SavedModel with a serving signature.
    """

    partitions = None

    def __init__(self, path):
        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(str(path))
            self._function = self._loaded.signatures[SIGNATURE]
        except (OSError, ValueError, KeyError) as error:
            raise ExportError(f"TensorFlow cannot load {path}: {error}") from error
        specs = self._function.structured_input_signature[1]
        self.inputs = [_tf_spec(name, spec) for name, spec in sorted(specs.items())]
        outputs = self._function.structured_outputs
        self.outputs = [_tf_spec(name, spec) for name, spec in sorted(outputs.items())]

    def __call__(self, inputs):
        """Computes a dict of arrays from a dict of arrays."""
        import tensorflow as tf

        outputs = self._function(**{k: tf.constant(v) for k, v in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}


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
