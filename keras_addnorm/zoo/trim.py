"""A smaller vocabulary: most of a multilingual encoder is its table of tokens."""

from collections.abc import Iterable

import keras
import numpy as np

from keras_addnorm.layers.dense import values_follow
from keras_addnorm.models import Tokenizer, TransformerEncoder
from keras_addnorm.zoo.tasks import task_of
from keras_addnorm.zoo.trim_tokenizer import kept_ids, trim_tokenizer

# Texts that are encoded at once: an encoding is many times as large as its text.
BATCH = 1024


def trim_vocabulary(model, tokenizer, corpus_or_ids):
    """Leaves out the tokens that a corpus does not use.

    Kept are the tokens of the corpus, special and added tokens, and what the tokenizer needs to
    come to them: what merges make on the way, the bytes of a BPE or else all its single characters,
    the bytes and the lowest score of a Unigram, and the pieces of words that a WordPiece finds
    before it gives up. Ids are numbered anew in their old order: the token `i` is now
    `new.token_to_id(old.id_to_token(i))`. On the corpus the new tokens are checked to be the old
    ones; then each position gets the same embedding, so the outputs are bit-equal. Other texts give
    the same tokens as far as they are kept; what is not becomes unknown or falls into smaller
    pieces.

    Args:
        model: a `TransformerEncoder`, or a text task over one, neither quantized nor with LoRA.
        tokenizer: the model's `Tokenizer`; None for that of the task's preprocessor.
        corpus_or_ids: iterable of strings, or iterable or array of token ids, of any shape.

    Returns:
        `(model, tokenizer)`, both new: the task's preprocessor has the new tokenizer. A `MaskedLM`
        gives the logits of the kept tokens, which are equal up to rounding: a product with fewer
        columns may sum in another order. The arguments of `compile` are left behind.

    Raises:
        ValueError: on a model, tokenizer or corpus that is none of these, ids out of range, or a
            tokenizer that would tokenize the corpus otherwise.

    Example:

    ```python
    embedder = keras_addnorm.zoo.from_hugging_face("minilm", task="embed")
    small, tokenizer = keras_addnorm.zoo.trim_vocabulary(embedder, None, ["A cat sits."])
    ```

    Source: Abdaoui et al., arXiv:2010.05609.
    """
    encoder = _check_model(model)
    if tokenizer is None:
        tokenizer = getattr(getattr(model, "preprocessor", None), "tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(
            "`tokenizer` must be a keras_addnorm Tokenizer, or None for that of the task. "
            f"Received: an object of type {type(tokenizer).__name__}. Pass for instance "
            "embedder.preprocessor.tokenizer."
        )
    texts, used = _read_corpus(corpus_or_ids, tokenizer)
    mask_id = encoder.embedding_options.get("mask_token_id")
    needed = used if mask_id is None else used | {mask_id}
    kept = kept_ids(tokenizer, texts, _check_ids(needed, tokenizer, "Token ids"))
    _check_ids(range(kept[-1] + 1), encoder, "The tokenizer's ids")
    smaller = trim_tokenizer(tokenizer, kept)
    _check_same_tokens(texts, tokenizer, smaller, kept)
    return _trim_model(model, encoder, smaller, kept), smaller


def _check_model(model):
    is_task = task_of(model) is not None
    encoder = model.backbone if is_task else model
    if not isinstance(encoder, TransformerEncoder):
        raise ValueError(
            "`model` must be a TransformerEncoder of keras_addnorm, or a text task over one. "
            f"Received: an object of type {type(model).__name__}."
        )
    if any(layer.quantization_mode for layer in model._flatten_layers()):
        raise ValueError(
            "`model` must be in float. Received: a quantized model. Trim it, then `quantize` it."
        )
    if any(getattr(layer, "lora_enabled", False) for layer in model._flatten_layers()):
        raise ValueError(
            "`model` must have no LoRA factors beside its kernels. Received: a model with LoRA. "
            "Save and load it, which merges them."
        )
    return encoder


def _read_corpus(corpus, tokenizer):
    """(list of texts, set of token ids)."""
    items = []
    if isinstance(corpus, np.ndarray):
        items = corpus.ravel().tolist()
    elif isinstance(corpus, Iterable) and not isinstance(corpus, (str, bytes)):
        for item in corpus:  # Rows of ids too.
            items += [item] if isinstance(item, str) else np.ravel(item).tolist()
    if items and all(isinstance(item, str) for item in items):
        return items, {id for encoding in _encoded(tokenizer, items) for id in encoding.ids}
    if items and all(isinstance(i, int) and not isinstance(i, bool) for i in items):
        return [], set(items)
    raise ValueError(
        "`corpus_or_ids` must be strings, or token ids, and at least one. "
        f"Received: {str(corpus)[:100]!r}. Pass a list."
    )


def _encoded(tokenizer, texts):
    for start in range(0, len(texts), BATCH):
        yield from tokenizer.encode(texts[start : start + BATCH])


def _check_ids(ids, owner, what):
    """Returns ids, or raises if there are others than the tokens of a tokenizer or an encoder."""
    if isinstance(owner, Tokenizer):
        size, known = owner.vocabulary_size(), set(owner.tokenizer.get_vocab().values())
    else:
        size, known = owner.vocabulary_size, range(owner.vocabulary_size)
    outside = sorted(id for id in ids if id not in known)
    if outside:
        raise ValueError(
            f"{what} must be from 0 to {size - 1} and be tokens of the {type(owner).__name__}. "
            f"Received: {str(outside[:10])[1:-1]}. Pass the tokenizer that the model was trained "
            "with, and ids that it gives."
        )
    return ids


def _check_same_tokens(texts, before, after, kept):
    """Raises ValueError unless each token is where it should be, and texts give the old ones."""
    new = {old: id for id, old in enumerate(kept)}
    differ = [i for old, i in new.items() if after.id_to_token(i) != before.id_to_token(old)]
    if after.vocabulary_size() != len(kept) or differ:
        raise ValueError(
            "This tokenizer cannot be trimmed: its added tokens would get other ids than their "
            f"place in the vocabulary. Received: {len(kept)} tokens, of which the new tokenizer "
            f"has {after.vocabulary_size()}. Keep it as it is."
        )
    pairs = zip(texts, _encoded(before, texts), _encoded(after, texts), strict=True)
    for text, old, ours in pairs:
        if [new.get(id) for id in old.ids] != ours.ids:
            raise ValueError(
                "This tokenizer cannot be trimmed: with fewer tokens it would cut a text of the "
                f"corpus otherwise. Received: {text[:100]!r}, {old.tokens[:10]} would become "
                f"{ours.tokens[:10]}. Leave such texts out of the corpus."
            )


def _trim_model(model, encoder, tokenizer, kept):
    config = encoder.get_config()
    options = dict(config["embedding_options"])
    if options.get("mask_token_id") is not None:
        options["mask_token_id"] = kept.index(options["mask_token_id"])
    config |= {"vocabulary_size": len(kept), "embedding_options": options}
    with values_follow():
        smaller = type(encoder).from_config(config)
        if model is not encoder:
            smaller = _task_over(smaller, model, tokenizer)
    for new, old in zip(smaller.weights, model.weights, strict=True):
        value = keras.ops.convert_to_numpy(old)
        for axis, size in enumerate(new.shape):
            if size != value.shape[axis]:  # One for each token.
                value = np.take(value, kept, axis=axis)
        new.assign(value)
    return smaller


def _task_over(encoder, task, tokenizer):
    config = {**task.get_config(), "backbone": encoder}
    preprocessor = task.preprocessor
    if preprocessor is not None:
        settings = {**preprocessor.get_config(), "tokenizer": tokenizer}
        preprocessor = type(preprocessor)(**settings)
    return type(task)(**{**config, "preprocessor": preprocessor})
