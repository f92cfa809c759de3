"""Embedding texts with an exported model and the tokenizer that lies beside it."""

import numpy as np

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.runtime import open_model
from keras_addnorm.export.tokenizer import load_preprocessor


def embed_texts(path, texts):
    """Embeds texts with an exported `TextEmbedder`.

    Args:
        path: a .tflite file or SavedModel directory, with its report and tokenizer beside it.
        texts: list of strings.

    Returns:
        `(embeddings, cut)`: array `(len(texts), features)`, and the indices of the texts that
        were longer than the model takes and were cut.

    Raises:
        ExportError: if the model cannot be run, or does not embed texts.
    """
    model = open_model(path)
    preprocessor = load_preprocessor(path)
    vectors = [spec for spec in model.outputs if len(spec.shape) == 2]
    ids = [spec for spec in model.inputs if spec.name == "token_ids"]
    if model.lengths and not any(spec.name == "padding_mask" for spec in model.inputs):
        raise ExportError(
            f"{path} takes {max(model.lengths)} tokens without a padding mask, so shorter texts "
            "cannot be embedded. Export it with its padding_mask, or with any length."
        )
    if len(model.outputs) != 1 or not vectors or not ids:
        raise ExportError(
            f"{path} does not embed texts: it returns {[s.name for s in model.outputs]}. Export a "
            "TextEmbedder, such as zoo.from_hugging_face(..., task='embed')."
        )
    longest = max(model.lengths, default=preprocessor.sequence_length)
    limit = min(longest, preprocessor.sequence_length)
    uncut = [len(encoding.ids) for encoding in preprocessor.encode(texts, length=limit + 1)]
    cut = [index for index, tokens in enumerate(uncut) if tokens > limit]
    found = []
    for text, tokens in zip(texts, uncut, strict=True):  # Each as long as it is: no padding.
        length = min((n for n in model.lengths if n >= tokens), default=limit)
        length = length if model.lengths else min(tokens, limit)
        encoded = preprocessor.tokenize([text], length)
        found.append(model({s.name: encoded[s.name] for s in model.inputs})[vectors[0].name])
    return np.concatenate(found), cut
