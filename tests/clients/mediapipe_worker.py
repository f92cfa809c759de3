"""Runs MediaPipe's text tasks on a file and texts; see `conftest.ask`.

The request: `task` ("embed", "classify" or "describe"), `file` and `texts`. The reply: `version` of
MediaPipe, and `results`, one a text: the embedding, or a list of [label or index, score] in
MediaPipe's order. For "describe": what its own reader of metadata says. Or `error`.
"""

import importlib.metadata
import json
import sys

from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
from mediapipe.tasks.metadata import schema_py_generated
from mediapipe.tasks.python.text import TextClassifier, TextEmbedder


def embed(task, text):
    (embedding,) = task.embed(text).embeddings
    return [float(x) for x in embedding.embedding]


def classify(task, text):
    (head,) = task.classify(text).classifications
    return [[c.category_name or c.index, c.score] for c in head.categories]


TASKS = {"embed": (TextEmbedder, embed), "classify": (TextClassifier, classify)}


def describe(file):
    """Fields of the metadata, by the code that MediaPipe's schema was compiled to."""
    with open(file, "rb") as model:
        model = schema_py_generated.Model.GetRootAs(model.read(), 0)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    (entry,) = [e for e in entries if e.Name() == b"TFLITE_METADATA"]
    data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    metadata = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(data, 0))
    graph = metadata.subgraphMetadata[0]
    (unit,) = graph.inputProcessUnits
    (output,) = graph.outputTensorMetadata
    return {
        "license": metadata.license.decode(),
        "min_parser_version": metadata.minParserVersion.decode(),
        "inputs": [tensor.name.decode() for tensor in graph.inputTensorMetadata],
        "output": output.name.decode(),
        "tokenizer": type(unit.options).__name__,
        "vocabulary": [[f.name.decode(), f.type] for f in unit.options.vocabFile],
        "labels": [[f.name.decode(), f.type] for f in output.associatedFiles or ()],
        "files": [f.name.decode() for f in metadata.associatedFiles],
    }


def results(task, file, texts):
    kind, run = TASKS[task]
    with kind.create_from_model_path(file) as made:
        return [run(made, text) for text in texts]


def main(request, reply):
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    answer = {"version": importlib.metadata.version("mediapipe")}
    try:
        describes = asked["task"] == "describe"
        answer["results"] = describe(asked["file"]) if describes else results(**asked)
    except (RuntimeError, ValueError) as error:
        answer["error"] = str(error)
    with open(reply, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
