"""The engines of benchmarks/litert.py: what each one runs, and the processes that they run in."""

import dataclasses
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEERS = ROOT / ".peers"
FILES = PEERS / "files"
WORKER = ROOT / "benchmarks" / "peers" / "worker.py"
# Fixed shapes that peers have files for, by length; a batch of 8 is one more.
FIXED = (16, 64, 128, 256, 512)
# Python of each engine's process.
PYTHONS = {
    "litert": sys.executable,
    "onnxruntime": PEERS / "torch" / "bin" / "python",
    "openvino": PEERS / "torch" / "bin" / "python",
    "torch": PEERS / "torch" / "bin" / "python",
}
# Recipes that compute in float32, whatever their weights are stored as.
FLOAT_ARITHMETIC = ("float32", "float16", "weight_only_int8")
# Recipes that have files without a mask and segments too: files of any length need no padding.
IDS_ALONE = ("float32", "dynamic_int8")


@dataclasses.dataclass(frozen=True)
class Series:
    """One row of the tables: an engine and a model for it.

    Attributes:
        name: as the tables show it.
        engine: key of `PYTHONS`.
        file: name of the model below `FILES` with `{shape}` where it has files of fixed shapes;
            None for the checkpoint itself.
        fixed: whether it has one file for each shape.
        batch_file: name of the file for batches, where that is another one.
        limit: `"float32"` or `"int8"`, the arithmetic of its dense layers.
        options: of the engine's loader.
        kind: `"model"`, or `"products"` for the limits.
    """

    name: str
    engine: str
    file: str | None
    fixed: bool = False
    batch_file: str | None = None
    limit: str = "float32"
    options: dict = dataclasses.field(default_factory=dict, hash=False)
    kind: str = "model"

    def path(self, shape, checkpoint):
        """The file that runs a shape, such as `"128"` or `"8x128"`."""
        if self.file is None:
            return pathlib.Path(checkpoint)
        name = self.batch_file if self.batch_file and "x" in shape else self.file
        return FILES / name.format(shape=shape)

    def bytes(self, checkpoint):
        """Size on disk of what runs a sequence of 128 tokens."""
        path = self.path("128", checkpoint)
        if path.is_dir():
            path = path / "model.safetensors"
        return path.stat().st_size + _size(path.with_suffix(".bin"), path.suffix == ".xml")


def _size(path, counts):
    return path.stat().st_size if counts else 0


@dataclasses.dataclass(frozen=True)
class Variant:
    """A pair of our files, for any length and for the batch of 8.

    Attributes:
        recipe: of `to_tflite`.
        name: as the tables show it.
        file: the first one's name, without `.tflite`.
        dropped: names of inputs that they do not have.
    """

    recipe: str
    name: str
    file: str
    dropped: tuple = ()


def variants(recipes):
    """A `Variant` for each recipe of `to_tflite`, and for those of `IDS_ALONE` one more."""
    dropped = ("padding_mask", "segment_ids")
    return [
        *(Variant(name, f"keras_addnorm {name}", f"ours_{name}") for name in recipes),
        *(
            Variant(name, f"keras_addnorm {name}, ids alone", f"ours_{name}_ids", dropped)
            for name in IDS_ALONE
        ),
    ]


def ours(recipes):
    """A series for each of the `variants`."""
    return [
        Series(
            variant.name,
            "litert",
            f"{variant.file}.tflite",
            batch_file=f"{variant.file}_8x128.tflite",
            limit="float32" if variant.recipe in FLOAT_ARITHMETIC else "int8",
        )
        for variant in variants(recipes)
    ]


def peers():
    """A series for each peer."""
    rows = []
    for dtype in ("float32", "int8"):
        rows += [
            Series(
                f"litert-torch {dtype}",
                "litert",
                f"litert_torch_{dtype}_{{shape}}.tflite",
                fixed=True,
                limit=dtype,
            ),
            Series(
                f"KerasHub static {dtype}",
                "litert",
                f"kerashub_{dtype}_{{shape}}.tflite",
                fixed=True,
                limit=dtype,
            ),
            Series(
                f"KerasHub dynamic {dtype}", "litert", f"kerashub_{dtype}_any.tflite", limit=dtype
            ),
            Series(f"ONNX Runtime {dtype}", "onnxruntime", f"onnx_{dtype}.onnx", limit=dtype),
        ]
    in_float32 = {"precision": "f32"}
    return [
        *rows,
        Series("OpenVINO float32", "openvino", "openvino_float32.xml", options=in_float32),
        # What it does by default where the CPU has bfloat16, and the same as float32 elsewhere.
        Series("OpenVINO default", "openvino", "openvino_float32.xml"),
        Series("OpenVINO int8", "openvino", "openvino_int8.xml", limit="int8"),
        Series("OpenVINO w8", "openvino", "openvino_w8.xml", limit="int8"),
        Series("torch sdpa float32", "torch", None),
    ]


LIMITS = {
    dtype: Series(f"products {dtype}", "torch", None, options={"dtype": dtype}, kind="products")
    for dtype in ("float32", "int8")
}
REFERENCE = Series(
    "torch float64", "torch", None, options={"dtype": "float64", "attention": "eager"}
)


class Pool:
    """One process an engine, each holding the models that were asked for at a number of threads.

    Args:
        checkpoint: folder of all-MiniLM-L6-v2.
        threads: of an inference.
    """

    def __init__(self, checkpoint, threads):
        self._checkpoint, self._threads = checkpoint, threads
        self._processes, self._loaded = {}, set()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self._processes.values():
            process.stdin.close()
            process.wait()

    def ask(self, engine, **request):
        """One answer of an engine's process, which is started by its first request."""
        if engine not in self._processes:
            command = [str(PYTHONS[engine]), "-P", str(WORKER), engine]
            self._processes[engine] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        process = self._processes[engine]
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise SystemExit(f"{engine}, {request.get('model')}: {answer['error']}")
        return answer

    def load(self, series, shape):
        """Loads the model that runs a shape; returns its name in the process."""
        path = series.path(shape, self._checkpoint)
        if not path.exists():
            raise SystemExit(f"{path} is missing. Run `make peers` first.")
        model = f"{series.name} {path.name}"
        if (series.engine, model) not in self._loaded:
            self.ask(
                series.engine,
                do="load",
                model=model,
                path=str(path),
                threads=self._threads,
                options=series.options,
                kind=series.kind,
            )
            self._loaded.add((series.engine, model))
        return model

    def embed(self, series, ids, padded_to=None):
        """`(embedding, seconds)` of one sequence of token ids.

        At its exact length where the series takes any, else, or with `padded_to`, padded: to the
        shortest fixed length that holds it and is at least `padded_to`.
        """
        length = len(ids)
        if series.fixed or padded_to:
            length = next(n for n in FIXED if n >= max(length, padded_to or 0))
        model = self.load(series, str(length))
        inputs = sequence_inputs(ids, length)
        answer = self.ask(series.engine, do="embed", model=model, inputs=inputs)
        return answer["embedding"][0], answer["seconds"]


def sequence_inputs(ids, length):
    """Inputs of one sequence of token ids, padded at the end."""
    padding = [0] * (length - len(ids))
    return {
        "token_ids": [[*ids, *padding]],
        "padding_mask": [[1] * len(ids) + padding],
        "segment_ids": [[0] * length],
    }


def packages():
    """Versions of what runs and of what made the files."""
    wanted = {
        sys.executable: ("keras_addnorm", "keras", "tensorflow", "ai-edge-litert"),
        PEERS / "kerashub" / "bin" / "python": ("keras-hub",),
        PEERS / "litert_torch" / "bin" / "python": ("litert-torch", "ai-edge-quantizer"),
        PYTHONS["torch"]: ("torch", "transformers", "onnxruntime", "openvino", "nncf"),
    }
    found = {}
    for python, names in wanted.items():
        code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
        done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{python} lacks one of {names}. Run `make peers` first.")
        found.update(zip(names, done.stdout.split(), strict=True))
    return found
