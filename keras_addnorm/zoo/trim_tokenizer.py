"""Tokenizers with fewer tokens, by the edited text of their tokenizer.json."""

import json

import numpy as np

from keras_addnorm.models import Tokenizer

BYTES = {f"<0x{byte:02X}>" for byte in range(256)}


def kept_ids(tokenizer, texts, used):
    """The old ids of the tokens to keep, in order; an id's place in it is the new id.

    Args:
        tokenizer: a `Tokenizer`.
        texts: list of strings, on which the tokenizer is to stay the same.
        used: set of the ids that are wanted, those of the texts among them.
    """
    file, vocabulary = json.loads(tokenizer.to_json()), tokenizer.tokenizer.get_vocab()
    kept = used | {token["id"] for token in file.get("added_tokens", ())}
    kept |= {vocabulary[token] for token in tokenizer.special_tokens}
    _renumber(file.get("post_processor"), _Seen(kept))
    model = file["model"]
    kept |= {vocabulary[t] for t in (model.get("unk_token"),) if t in vocabulary}
    if model.get("byte_fallback"):
        kept |= {vocabulary[token] for token in BYTES & vocabulary.keys()}
    if model["type"] in _NEEDED:
        kept |= _NEEDED[model["type"]](tokenizer, model, texts, kept)
    return sorted(kept)


class _Seen(dict):
    """Stands for new ids in `_renumber`, and notes which ones that asks for."""

    def __init__(self, ids):
        self.ids = ids

    def __missing__(self, id):
        self.ids.add(id)
        return id


def _needed_by_word_piece(tokenizer, model, texts, kept):
    """The pieces of words that are unknown in the end: without them, others might spell a word."""
    vocabulary, found = model["vocab"], set()
    unknown = vocabulary.get(model["unk_token"])
    words = _words(tokenizer, texts) if unknown in kept else ()
    for word in words:
        if len(word) > model["max_input_chars_per_word"]:
            continue
        pieces, rest, prefix = [], word, ""
        while rest:
            longest = (prefix + rest[:n] for n in range(len(rest), 0, -1))
            piece = next((piece for piece in longest if piece in vocabulary), None)
            if piece is None:
                found.update(pieces)
                break
            pieces.append(vocabulary[piece])
            rest = rest[len(piece) - len(prefix) :]
            prefix = model["continuing_subword_prefix"]
    return found


def _words(tokenizer, texts):
    """The words that a tokenizer's model gets of texts, each once."""
    normalizer, splitter = tokenizer.tokenizer.normalizer, tokenizer.tokenizer.pre_tokenizer
    words = set()
    for text in texts:
        text = text if normalizer is None else normalizer.normalize_str(text)
        parts = [(text, None)] if splitter is None else splitter.pre_tokenize_str(text)
        words.update(word for word, _ in parts)
    return words


def _needed_by_bpe(tokenizer, model, texts, kept):
    """What merges make on the way to the kept tokens, and what any text is made of.

    A token of a text was made by the merges that make it on its own: pairs across its borders were
    never merged. With all of these, and no others than before, each step merges the same pair.
    """
    vocabulary, found = model["vocab"], set()
    ranks = {pair: rank for rank, pair in enumerate(_pairs(model))}
    for token, id in vocabulary.items():
        if id in kept and token not in BYTES:
            found.update(vocabulary[t] for t in _made(model, ranks, token) if t in vocabulary)
        elif _is_character(model, token) and not model.get("byte_fallback"):
            found.add(id)
    return found


def _affixes(model):
    return model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""


def _is_character(model, token):
    prefix, suffix = _affixes(model)
    return len(token.removeprefix(prefix).removesuffix(suffix)) == 1


def _made(model, ranks, token):
    """Yields the characters of a token, and what merges make of them one after the other."""
    prefix, suffix = _affixes(model)
    start = prefix if prefix and token.startswith(prefix) else ""
    end = suffix if suffix and token.endswith(suffix) else ""
    symbols = list(token[len(start) : len(token) - len(end)])
    symbols = [prefix + symbol if i or start else symbol for i, symbol in enumerate(symbols)]
    if symbols:
        symbols[-1] += end
    yield from symbols
    while True:
        pairs = [(ranks.get(pair, len(ranks)), i) for i, pair in enumerate(_neighbours(symbols))]
        rank, i = min(pairs, default=(len(ranks), 0))
        if rank == len(ranks):
            return
        symbols[i : i + 2] = [_joined(model, *symbols[i : i + 2])]
        yield symbols[i]


def _neighbours(symbols):
    return zip(symbols, symbols[1:], strict=False)


def _joined(model, left, right):
    return left + right[len(_affixes(model)[0]) :]


def _pairs(model):
    """The merges of a BPE, as pairs; older files join them by a space."""
    return [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model["merges"]]


def _needed_by_unigram(tokenizer, model, texts, kept):
    """The lowest score, which tells what an unknown character costs, and the unknown token."""
    scores = [score for _, score in model["vocab"]]
    found = {int(np.argmin(scores))} if scores else set()
    return found if model.get("unk_id") is None else found | {model["unk_id"]}


# What a kind of model needs beside the tokens that are used: a function of the tokenizer, the
# model in its file, the texts and the ids kept so far.
_NEEDED = {
    "BPE": _needed_by_bpe,
    "Unigram": _needed_by_unigram,
    "WordPiece": _needed_by_word_piece,
}


def trim_tokenizer(tokenizer, kept):
    """The tokenizer with the kept tokens only, a list of ids in order."""
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
        pairs = [pair for pair in _pairs(model) if known >= {*pair, _joined(model, *pair)}]
        model["merges"] = [list(pair) for pair in pairs]
    for token in file.get("added_tokens", ()):
        token["id"] = new[token["id"]]
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
