"""Embedding texts with an exported model and the tokenizer that lies beside it."""

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
    if len(model.outputs) != 1 or not vectors or not ids:
        raise ExportError(
            f"{path} does not embed texts: it returns {[s.name for s in model.outputs]}. Export a "
            "TextEmbedder, such as zoo.from_hugging_face(..., task='embed')."
        )
    limit = min(ids[0].shape[1] or preprocessor.sequence_length, preprocessor.sequence_length)
    uncut = [len(encoding.ids) for encoding in preprocessor.encode(texts, length=limit + 1)]
    length = ids[0].shape[1] or min(max(uncut), limit)
    encoded = preprocessor.tokenize(texts, length)
    inputs = {spec.name: encoded[spec.name] for spec in model.inputs}
    cut = [index for index, tokens in enumerate(uncut) if tokens > length]
    return model(inputs)[vectors[0].name], cut
