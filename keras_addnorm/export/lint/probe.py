"""Loads a .tflite file in LiteRT and prints what its XNNPACK delegate took, as one line of JSON.

A program of its own, which imports nothing of this package: a hostile file that crashes LiteRT, or
wants all memory, ends this process and no other.
"""

import json
import pathlib
import sys

MEMORY = 4 * 2**30  # bytes, beside eight times the file


def limit_memory(path):
    """Limits what this process may allocate, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = MEMORY + 8 * pathlib.Path(path).stat().st_size
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def probe(path):
    """Inputs and outputs of each delegated part of the first graph, as indices of tensors."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, MemoryError) as error:
        return {"error": str(error) or type(error).__name__}
    parts = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    ends = ("inputs", "outputs")
    return {"parts": [{end: list(map(int, part[end])) for end in ends} for part in parts]}


if __name__ == "__main__":
    limit_memory(sys.argv[1])
    print(json.dumps(probe(sys.argv[1])))
