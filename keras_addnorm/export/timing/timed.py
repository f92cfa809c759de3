"""A .tflite file made ready to be timed, and a script that loads one in a process of its own.

    python -P timed.py FILE INPUTS.npz THREADS [SIGNATURE]

The script prints how long loading and the first inference took and what they did to the memory of
the process. It imports nothing of this package: Keras and TensorFlow would be most of that memory.
"""

import json
import pathlib
import sys
import time

import numpy as np

STATUS = pathlib.Path("/proc/self/status")


class TimedModel:
    """A .tflite file in LiteRT's interpreter, resized to its inputs, which are set once.

    Args:
        path: the file.
        inputs: dict of arrays by the signature's input names, or by tensor names without one.
        signature: key of a signature, or None for a file that has none.
        num_threads: int.

    Attributes:
        load_seconds: how long construction, resizing and allocation took.
        partitions: pieces of the main graph that the XNNPACK delegate took over.

    Raises:
        ValueError, RuntimeError: LiteRT's own, if it cannot load the file.
    """

    def __init__(self, path, inputs, signature=None, num_threads=1):
        from ai_edge_litert.interpreter import Interpreter

        start = time.perf_counter()
        self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
        # The wrapper inside: a SignatureRunner copies inputs and outputs in every call.
        self._wrapper = self._interpreter._interpreter
        if signature is None:
            self._graph = 0
            details = {d["name"]: d for d in self._interpreter.get_input_details()}
        else:
            runner = self._interpreter.get_signature_runner(signature)
            self._graph, details = runner._subgraph_index, runner.get_input_details()
        for name, value in inputs.items():
            shape = np.array(value.shape, "int32")
            self._wrapper.ResizeInputTensor(details[name]["index"], shape, False, self._graph)
        self._wrapper.AllocateTensors(self._graph)
        self.load_seconds = time.perf_counter() - start
        for name, value in inputs.items():
            self._wrapper.SetTensor(details[name]["index"], value, self._graph)
        names = [op["op_name"] for op in self._interpreter._get_ops_details()]
        self.partitions = names.count("DELEGATE")

    def __call__(self):
        """One inference."""
        self._wrapper.Invoke(self._graph)


def resident_memory():
    """Bytes of memory of this process that are resident (RSS); None where the system has no /proc.

    Pages of a mapped file count, as far as they were touched.
    """
    if not STATUS.is_file():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def cold_start(path, inputs, signature, num_threads):
    """Loads a file and runs it once; the facts as a dict of seconds and bytes."""
    import ai_edge_litert.interpreter  # noqa: F401  The runtime is not the file's to pay for.

    before = resident_memory()
    model = TimedModel(path, inputs, signature, num_threads)
    start = time.perf_counter()
    model()
    return {
        "load_seconds": model.load_seconds,
        "first_seconds": time.perf_counter() - start,
        "rss_before": before,
        "rss_after": resident_memory(),
        "partitions": model.partitions,
    }


def main(path, inputs, num_threads, signature=None):
    """Prints `cold_start` as JSON."""
    with np.load(inputs) as arrays:
        inputs = dict(arrays)
    print(json.dumps(cold_start(path, inputs, signature, int(num_threads))))


if __name__ == "__main__":
    main(*sys.argv[1:])
