"""Time by operator inside a .tflite file, measured by LiteRT's own profiler while the file runs.

    python -P op_profile.py FILE INPUTS.npz THREADS RUNS [SIGNATURE]

The Python package of LiteRT exposes no profiler, but the library that it ships, libLiteRt.so, does
in its C interface (litert/c/litert_profiler.h), and reports every operator of the XNNPACK delegate
where it runs: with the caches, threads and packed weights of the real graph. A script, run in a
process of its own, so that a library with another interface costs an error and not the caller.
"""

import collections
import ctypes
import json
import pathlib
import statistics
import sys

import numpy as np

# ProfiledEventData.event_type: an inference and steps around it, a kernel of the interpreter, and
# an operator of a delegate.
STEP, KERNEL, DELEGATED = 1, 2, 8
CPU = 1  # kLiteRtHwAcceleratorCpu
OPTIONS = {"runtime_options_string": "enable_profiling = true\n", "xnnpack": "num_threads = {}\n"}
ELEMENTS = {  # LiteRtElementType
    **{"float32": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9},
    **{"float16": 10, "float64": 11},
}
ALIGNMENT = 64  # of host memory that becomes a tensor


class Layout(ctypes.Structure):
    """LiteRtLayout."""

    _fields_ = [
        ("rank", ctypes.c_uint, 7),
        ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    ]


class TensorType(ctypes.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = [("element", ctypes.c_int), ("layout", Layout)]


class Event(ctypes.Structure):
    """ProfiledEventData; times in microseconds."""

    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start", ctypes.c_uint64),
        ("elapsed", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    ]


class ProfiledModel:
    """A .tflite file in LiteRT's CompiledModel, on the CPU, with the profiler switched on.

    Args:
        path, inputs, signature, num_threads: as of `timed.TimedModel`.

    Raises:
        RuntimeError: naming the function of the library that failed.
    """

    def __init__(self, path, inputs, signature, num_threads):
        import ai_edge_litert

        self._library = ctypes.CDLL(pathlib.Path(ai_edge_litert.__file__).parent / "libLiteRt.so")
        self._memory = []  # What the library points into must outlive it.
        environment = self._make("CreateEnvironment", 0, None)
        model = self._make("CreateModelFromFile", environment, str(path).encode())
        options = self._options(num_threads)
        self._compiled = self._make("CreateCompiledModel", environment, model, options)
        self._profiler = self._make("CompiledModelGetProfiler", self._compiled)
        self._index, names, outputs = self._signature(model, signature)
        for i, name in enumerate(names):
            shape = inputs[name].shape
            dims = (ctypes.c_int * len(shape))(*shape)
            resize = "CompiledModelResizeInputTensorNonStrict"
            self._call(resize, self._compiled, self._index, i, dims, len(shape))
        layouts = (Layout * len(outputs))()
        arguments = (self._compiled, self._index, len(outputs), layouts, ctypes.c_bool(True))
        self._call("GetCompiledModelOutputTensorLayouts", *arguments)
        shapes = [list(layout.dimensions[: layout.rank]) for layout in layouts]
        ours = [
            self._buffer(ELEMENTS[inputs[n].dtype.name], inputs[n].shape, inputs[n]) for n in names
        ]
        theirs = [self._buffer(e, s) for e, s in zip(outputs, shapes, strict=True)]
        self._buffers = [(ctypes.c_void_p * len(b))(*b) for b in (ours, theirs)]

    def __call__(self):
        """One inference."""
        taken, given = self._buffers
        arguments = (self._compiled, self._index, len(taken), taken, len(given), given)
        self._call("RunCompiledModel", *arguments)

    def events(self):
        """The `Event`s of one inference."""
        for step in ("ResetProfiler", "StartProfiler"):
            self._call(step, self._profiler)
        self()
        self._call("StopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("GetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (Event * count.value)()
        self._call("GetProfilerEvents", self._profiler, count, events)
        return events

    def _call(self, name, *arguments):
        # A bare int would be passed as 32 bits, and the library's sizes are 64.
        wide = [ctypes.c_size_t(a) if type(a) is int else a for a in arguments]
        status = getattr(self._library, f"LiteRt{name}")(*wide)
        if status:
            raise RuntimeError(f"LiteRt{name} failed with status {status}")

    def _make(self, name, *arguments):
        made = ctypes.c_void_p()
        self._call(name, *arguments, ctypes.byref(made))
        return made

    def _options(self, num_threads):
        options = self._make("CreateOptions")
        self._call("SetOptionsHardwareAccelerators", options, CPU)
        keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)
        for identifier, text in OPTIONS.items():
            payload = ctypes.create_string_buffer(text.format(num_threads).encode())
            self._memory += [payload, keep]
            one = self._make("CreateOpaqueOptions", identifier.encode(), payload, keep)
            self._call("AddOpaqueOptions", options, one)
        return options

    def _signature(self, model, key):
        """(index, names of inputs, element types of outputs) of a signature."""
        count = self._number("GetNumModelSignatures", model)
        for index in range(count):
            signature = self._make("GetModelSignature", model, index)
            name = self._text("GetSignatureKey", signature)
            if key is None or name == key:
                break
        inputs = range(self._number("GetNumSignatureInputs", signature))
        names = [self._text("GetSignatureInputName", signature, i) for i in inputs]
        outputs = range(self._number("GetNumSignatureOutputs", signature))
        tensors = [self._make("GetSignatureOutputTensorByIndex", signature, i) for i in outputs]
        return index, names, [self._element(tensor) for tensor in tensors]

    def _element(self, tensor):
        found = TensorType()
        self._call("GetRankedTensorType", tensor, ctypes.byref(found))
        return found.element

    def _number(self, name, *arguments):
        number = ctypes.c_size_t()
        self._call(name, *arguments, ctypes.byref(number))
        return number.value

    def _text(self, name, *arguments):
        text = ctypes.c_char_p()
        self._call(name, *arguments, ctypes.byref(text))
        return text.value.decode()

    def _buffer(self, element, shape, values=None):
        """A tensor over memory of numpy; 8 bytes an element are enough for every type."""
        size = 8 * max(1, int(np.prod(shape)))
        memory = np.zeros(size + ALIGNMENT, "uint8")
        memory = memory[-memory.ctypes.data % ALIGNMENT :][:size]
        if values is not None:
            memory[: values.nbytes] = np.ascontiguousarray(values).reshape(-1).view("uint8")
        self._memory.append(memory)
        layout = Layout(len(shape), 0, (ctypes.c_int32 * 8)(*shape))
        kind, address = TensorType(element, layout), ctypes.c_void_p(memory.ctypes.data)
        create = "CreateTensorBufferFromHostMemory"
        return self._make(create, ctypes.byref(kind), address, size, None)


def profile(path, inputs, signature, num_threads, runs):
    """Profiles a file; medians over `runs`.

    Returns:
        Dict of `seconds` of an inference, and `operators`, a list of dicts of `name`, `count` and
        `seconds`, the slowest first. What an inference takes beyond its operators is the last one.
        An operator is timed in whole microseconds.
    """
    model = ProfiledModel(path, inputs, signature, num_threads)
    for _ in range(3):
        model()
    totals, counts, seconds = [], {}, collections.defaultdict(list)
    for _ in range(runs):
        events = model.events()
        sums, counts = collections.Counter(), collections.Counter()
        for event in events:
            if event.type in (KERNEL, DELEGATED):
                name = event.tag.decode()
                counts[name] += 1
                sums[name] += 1e-6 * event.elapsed
        whole = next(e for e in events if e.type == STEP and e.tag == b"Invoke")
        totals.append(1e-6 * whole.elapsed)
        for name in counts:
            seconds[name].append(sums[name])
        seconds["between operators"].append(totals[-1] - sum(sums.values()))
    rows = [
        {"name": name, "count": counts.get(name), "seconds": statistics.median(values)}
        for name, values in seconds.items()
    ]
    rows.sort(key=lambda row: (row["count"] is None, -row["seconds"]))
    return {"seconds": statistics.median(totals), "operators": rows}


def main(path, inputs, num_threads, runs, signature=None):
    """Prints `profile` as JSON."""
    with np.load(inputs) as arrays:
        inputs = dict(arrays)
    print(json.dumps(profile(path, inputs, signature, int(num_threads), int(runs))))


if __name__ == "__main__":
    main(*sys.argv[1:])
