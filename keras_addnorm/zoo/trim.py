"""A smaller vocabulary: most of a multilingual encoder is its table of tokens."""

import json

import keras
import numpy as np

from keras_addnorm.layers.dense import values_follow
from keras_addnorm.models import Tokenizer, TransformerEncoder
from keras_addnorm.zoo.tasks import task_of


def trim_vocabulary(model, tokenizer, corpus_or_ids):
    """Leaves out the tokens that a corpus does not use.

    Kept are the tokens of the corpus, special and added tokens, and what the tokenizer needs to
    come to them: the parts of merges, all single characters and bytes of a BPE, the bytes and
    the lowest score of a Unigram. Ids are numbered anew in their old order. On the corpus the new
    ids are checked to be those of the same tokens; then each position gets the same embedding,
    so the outputs are bit-equal. Other texts give the same tokens as far as they are kept; what
    is not becomes unknown or falls into smaller pieces.

    Args:
        model: a `TransformerEncoder`, or a text task over one, in float: not quantized.
        tokenizer: the model's `Tokenizer`; None for that of the task's preprocessor.
        corpus_or_ids: iterable of strings, or array or iterable of token ids.

    Returns:
        `(model, tokenizer)`, both new: the task's preprocessor has the new tokenizer. A model that
        gives logits for tokens (`MaskedLM`) gives those of the kept ones.

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
    limit = min(tokenizer.vocabulary_size(), encoder.vocabulary_size)
    outside = sorted(id for id in used if not 0 <= id < limit)
    if outside:
        raise ValueError(f"Token ids must be from 0 to {limit - 1}. Received: {outside[:10]}.")
    kept = _kept_ids(json.loads(tokenizer.to_json()), tokenizer, used, encoder)
    smaller = _trim_tokenizer(tokenizer, kept)
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
    return encoder


def _read_corpus(corpus, tokenizer):
    """(list of texts, set of token ids)."""
    items = None if isinstance(corpus, (str, bytes)) else list(np.ravel(corpus).tolist())
    if items and all(isinstance(item, str) for item in items):
        encodings = tokenizer.encode(items)
        return items, {id for encoding in encodings for id in encoding.ids}
    if items and all(isinstance(i, int) and not isinstance(i, bool) for i in items):
        return [], set(items)
    raise ValueError(
        "`corpus_or_ids` must be strings, or token ids, and at least one. "
        f"Received: {str(corpus)[:100]!r}. Pass a list."
    )


def _kept_ids(file, tokenizer, used, encoder):
    """The old ids of the tokens to keep, in order; an id's place in it is the new id."""
    model, vocabulary = file["model"], tokenizer.tokenizer.get_vocab()
    kept = set(used) | {token["id"] for token in file.get("added_tokens", ())}
    kept |= {vocabulary[getattr(tokenizer, role)] for role in tokenizer._special_token_attrs}
    unknown = model.get("unk_token")
    kept |= {vocabulary[unknown]} if unknown in vocabulary else set()
    mask_id = encoder.embedding_options.get("mask_token_id")
    kept |= set() if mask_id is None else {mask_id}
    if model["type"] == "BPE":
        kept |= {id for token, id in vocabulary.items() if len(token) == 1}
        kept |= {vocabulary[part] for part in _parts(model, vocabulary, kept)}
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        # What an unknown character costs is told by the lowest score.
        kept |= {int(np.argmin(scores))} if scores else set()
        kept |= {model["unk_id"]} if model.get("unk_id") is not None else set()
    if model.get("byte_fallback"):
        names = [f"<0x{byte:02X}>" for byte in range(256)]
        kept |= {vocabulary[name] for name in names if name in vocabulary}
    return sorted(kept)


def _pairs(model):
    """The merges of a BPE, as pairs; older files join them by a space."""
    return [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model["merges"]]


def _parts(model, vocabulary, kept):
    """The tokens of which merges make the kept ones, and the tokens of which those are made."""
    made_of = {}
    for pair in _pairs(model):
        made_of.setdefault("".join(pair), []).extend(pair)
    tokens = {id: token for token, id in vocabulary.items()}
    found, todo = set(), [tokens[id] for id in kept if id in tokens]
    while todo:
        for part in made_of.get(todo.pop(), ()):
            if part not in found:
                found.add(part)
                todo.append(part)
    return found & vocabulary.keys()


def _trim_tokenizer(tokenizer, kept):
    """The tokenizer with the kept tokens only, by the edited text of its tokenizer.json."""
    file, new = json.loads(tokenizer.to_json()), {old: id for id, old in enumerate(kept)}
    model = file["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [row for id, row in enumerate(model["vocab"]) if id in new]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {t: new[id] for t, id in model["vocab"].items() if id in new}
    if model["type"] == "BPE":
        known = model["vocab"].keys()
        merges = [list(pair) for pair in _pairs(model) if known >= {*pair, "".join(pair)}]
        model["merges"] = merges
    for token in file.get("added_tokens", ()):
        token["id"] = new[token["id"]]
    if file.get("padding"):
        file["padding"]["pad_id"] = new[file["padding"]["pad_id"]]
    _renumber(file.get("post_processor"), new)
    config = tokenizer.get_config()
    return Tokenizer.from_config({**config, "tokenizer_json": json.dumps(file)})


def _renumber(processor, new):
    """Changes the ids that a post-processor holds, in place."""
    if not processor:
        return
    if processor["type"] == "Sequence":
        for part in processor["processors"]:
            _renumber(part, new)
    elif processor["type"] == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            token["ids"] = [new[id] for id in token["ids"]]
    elif processor["type"] in ("BertProcessing", "RobertaProcessing"):
        for name in ("sep", "cls"):
            token, id = processor[name]
            processor[name] = [token, new[id]]


def _check_same_tokens(texts, before, after, kept):
    new = {old: id for id, old in enumerate(kept)}
    for text, old, ours in zip(texts, before.encode(texts), after.encode(texts), strict=True):
        if [new.get(id) for id in old.ids] != ours.ids:
            raise ValueError(
                "This tokenizer cannot be trimmed: with fewer tokens it would cut a text of the "
                f"corpus otherwise. Received: {text[:100]!r}, {old.tokens[:10]} would become "
                f"{ours.tokens[:10]}."
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
