"""One library that embeds texts, in a process of its own.

    python -P text_worker.py LIBRARY PATH [BATCH_SIZE]

Loads the model at PATH, embeds a first sentence, and writes a line of JSON; then reads requests, a
JSON list of texts a line, and answers each with the embeddings and the seconds that they took.
"""

import json
import sys
import time

FIRST = "A cat sits on the mat."


def keras_addnorm(path, **batch):
    """A bundle."""
    from keras_addnorm.text import Embedder

    embedder = Embedder(path)
    return lambda texts: embedder.embed(texts, **batch)


def sentence_transformers(path, **batch):
    """The checkpoint in torch."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(path, device="cpu")
    options = {"show_progress_bar": False, "normalize_embeddings": True, **batch}
    return lambda texts: model.encode(texts, **options)


def fastembed(path, **batch):
    """A folder with the encoder as ONNX."""
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/minilm",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(url="http://localhost"),  # One must be named; it is not asked.
        dim=384,
        model_file="model.onnx",
    )
    model = TextEmbedding("local/minilm", specific_model_path=path)
    return lambda texts: np.stack(list(model.embed(texts, **batch)))


def main(library, path, batch_size=None):
    """Answers until the input ends."""
    batch = {} if batch_size is None else {"batch_size": int(batch_size)}
    embed = globals()[library](path, **batch)
    answer({"features": len(embed([FIRST])[0])})
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.perf_counter()
        embeddings = embed(texts)
        seconds = time.perf_counter() - started
        answer({"seconds": seconds, "embeddings": embeddings.tolist()})


def answer(value):
    """Writes a line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
