"""One engine in one process, which loads models and runs them when it is told to.

    python -P worker.py litert | onnxruntime | openvino | torch

Reads requests and writes answers, a line of JSON each, so that a coordinator can run the engines
in turn. Requests, by `do`:

    load    model, path, threads, options, kind: keeps a model under its name
    set     model, inputs: sets the inputs and runs it once
    time    model: one run to warm up, and the median seconds of one more, or of more in `LEAST`
    embed   model, inputs: the embedding, and the seconds from arrays to array

Inputs are lists of lists of integers by name.
"""

import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np

NAMES = ("token_ids", "padding_mask", "segment_ids")
LEAST = 0.02  # seconds that a model runs when it is timed


class LiteRT:
    """A .tflite file in the interpreter; resized only when the shape changes."""

    def __init__(self, path, threads):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=path, num_threads=threads)
        runner = self._interpreter.get_signature_runner()
        self._inputs = {n: (d["index"], d["dtype"]) for n, d in runner.get_input_details().items()}
        (details,) = runner.get_output_details().values()
        self._output, self._shape = details["index"], None

    def set(self, inputs):
        shape = inputs["token_ids"].shape
        if shape != self._shape:
            for index, _ in self._inputs.values():
                self._interpreter.resize_tensor_input(index, shape)
            self._interpreter.allocate_tensors()
            self._shape = shape
        for name, (index, dtype) in self._inputs.items():
            self._interpreter.set_tensor(index, inputs[name].astype(dtype))

    def run(self):
        self._interpreter.invoke()

    def result(self):
        return self._interpreter.get_tensor(self._output)


class OnnxRuntime:
    """An .onnx file in a session on the CPU, all graph optimizations on."""

    def __init__(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self._names = [node.name for node in self._session.get_inputs()]

    def set(self, inputs):
        self._feed = {name: inputs[name].astype("int64") for name in self._names}

    def run(self):
        (self._result,) = self._session.run(None, self._feed)

    def result(self):
        return self._result


class OpenVINO:
    """An OpenVINO model on the CPU, in one stream.

    `precision` is that of its float arithmetic; by default it is bfloat16 where the CPU has that.
    """

    def __init__(self, path, threads, precision=None):
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        settings |= {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
        model = openvino.Core().compile_model(path, "CPU", settings)
        self._request = model.create_infer_request()
        self._names = [port.any_name for port in model.inputs]

    def set(self, inputs):
        import openvino

        for name in self._names:
            self._request.set_tensor(name, openvino.Tensor(inputs[name].astype("int64")))

    def run(self):
        self._request.infer()

    def result(self):
        return self._request.get_output_tensor(0).data


class Torch:
    """The encoder of transformers, by scaled_dot_product_attention; `eager` and float64 too."""

    def __init__(self, path, threads, attention="sdpa", dtype="float32"):
        import torch

        sys.path.insert(0, str(pathlib.Path(__file__).parent))
        from minilm import Embedder

        self._torch, self._threads = torch, threads
        self._model = Embedder(path, attention, getattr(torch, dtype))

    def set(self, inputs):
        self._feed = [self._torch.from_numpy(inputs[name].astype("int64")) for name in NAMES]

    def run(self):
        self._torch.set_num_threads(self._threads)
        with self._torch.inference_mode():
            self._result = self._model(*self._feed)

    def result(self):
        return self._result.numpy()


class Products:
    """The matrix products of the dense layers of one block over `ROWS` positions, and no more.

    By torch: float32 by MKL or oneDNN, int8 by oneDNN with packed weights. So many rows that the
    call costs nothing and the weights are read once for many of them: the rate of the machine.
    """

    ROWS = 1024

    def __init__(self, path, threads, dtype="float32"):
        import torch

        with open(pathlib.Path(path) / "config.json", encoding="utf-8") as file:
            config = json.load(file)
        width, inner = config["hidden_size"], config["intermediate_size"]
        shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
        self._flops = 2 * self.ROWS * sum(rows * columns for rows, columns in shapes)
        self._torch, self._threads = torch, threads
        make = self._int8 if dtype == "int8" else self._float32
        self._products = [make(*shape) for shape in shapes]

    def _float32(self, rows, columns):
        x, kernel = self._torch.randn(self.ROWS, rows), self._torch.randn(rows, columns)
        return lambda: x @ kernel

    def _int8(self, rows, columns):
        torch = self._torch
        x = torch.randint(0, 256, (self.ROWS, rows), dtype=torch.uint8)
        kernel = torch.randint(-127, 128, (columns, rows), dtype=torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(kernel, None)
        scales, zeros = torch.full((columns,), 0.01), torch.zeros(columns, dtype=torch.int32)
        weights = (packed, scales, zeros, None)
        rest = (1.0, 0, torch.float32, "none", [], "")
        return lambda: torch.ops.onednn.qlinear_pointwise(x, 0.02, 0, *weights, *rest)

    def set(self, inputs):
        pass  # The rate is the machine's, whatever the model's inputs are.

    def run(self):
        self._torch.set_num_threads(self._threads)
        with self._torch.inference_mode():
            for product in self._products:
                product()

    def result(self):
        return np.array(self._flops)  # of one run


ENGINES = {
    "litert": {"model": LiteRT},
    "onnxruntime": {"model": OnnxRuntime},
    "openvino": {"model": OpenVINO},
    "torch": {"model": Torch, "products": Products},
}


def answer(engine, models, request):
    """What one request gives, as JSON types."""
    kind = request["do"]
    if kind == "load":
        make = ENGINES[engine][request.get("kind", "model")]
        options = request.get("options", {})
        models[request["model"]] = make(request["path"], request["threads"], **options)
        return {}
    model = models[request["model"]]
    if kind == "time":
        model.run()
        seconds = []
        while sum(seconds) < LEAST:
            start = time.perf_counter()
            model.run()
            seconds.append(time.perf_counter() - start)
        return {"seconds": statistics.median(seconds)}
    inputs = {name: np.array(value, "int32") for name, value in request["inputs"].items()}
    start = time.perf_counter()
    model.set(inputs)
    if kind == "set":
        model.run()
        return {}
    model.run()
    result = np.array(model.result())
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "embedding": result.astype("float64").tolist()}


def main(engine):
    """Answers until the input ends."""
    # The answers' own descriptor: libraries write to the standard output too.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    models = {}
    for line in sys.stdin:
        try:
            reply = answer(engine, models, json.loads(line))
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
