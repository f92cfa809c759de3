"""Runs MediaPipe's text tasks on a file and texts; see `conftest.ask`.

The request: `task` ("embed" or "classify"), `file` and `texts`. The reply: `version` of MediaPipe,
and `results`, one a text: the embedding, or a list of [label or index, score] in MediaPipe's order;
or the text of an error as `error`.
"""

import importlib.metadata
import json
import sys

from mediapipe.tasks.python.text import TextClassifier, TextEmbedder


def embed(task, text):
    (embedding,) = task.embed(text).embeddings
    return [float(x) for x in embedding.embedding]


def classify(task, text):
    (head,) = task.classify(text).classifications
    return [
        [c.index if c.category_name is None else c.category_name, c.score] for c in head.categories
    ]


TASKS = {"embed": (TextEmbedder, embed), "classify": (TextClassifier, classify)}


def results(task, file, texts):
    kind, run = TASKS[task]
    with kind.create_from_model_path(file) as made:
        for text in texts:
            try:
                yield run(made, text)
            except (RuntimeError, ValueError) as error:
                yield {"error": str(error)}


def main(request, reply):
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    answer = {"version": importlib.metadata.version("mediapipe")}
    try:
        answer["results"] = list(results(**asked))
    except (RuntimeError, ValueError) as error:
        answer["error"] = str(error)
    with open(reply, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
