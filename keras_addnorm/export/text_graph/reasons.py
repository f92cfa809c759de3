"""Which tokenizers can be written as a graph."""

import json
import unicodedata

from keras_addnorm.models import Tokenizer


def why_not(model):
    """Why a task's texts cannot be tokenized in the graph; None where they can.

    Args:
        model: a Keras model; only tasks with a preprocessor of this package have a tokenizer.

    Returns:
        A sentence without its full stop, or None.
    """
    preprocessor = getattr(model, "preprocessor", None)
    tokenizer = getattr(preprocessor, "tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        return "the model has no tokenizer of keras_addnorm"
    if tokenizer.pad_token_id is None:
        return "the tokenizer has no pad_token"
    settings = json.loads(tokenizer.to_json())
    parts = ("model", "WordPiece"), ("normalizer", "BertNormalizer")
    for part, wanted in (*parts, ("pre_tokenizer", "BertPreTokenizer")):
        found = (settings.get(part) or {}).get("type")
        if found != wanted:
            return f"the tokenizer's {part} is {found}, not {wanted}"
    reasons = (
        _added_tokens(settings["added_tokens"]),
        _special_tokens(tokenizer),
        _marks(tokenizer.tokenizer.normalizer, settings["model"]["vocab"]),
    )
    return next(filter(None, reasons), None)


def _added_tokens(added):
    """Added tokens are looked for in the raw text, all at once: so they must not overlap.

    Whether one swallows the spaces beside it does not matter, since spaces are no tokens.
    """
    for token in added:
        if token["normalized"] or token["single_word"]:
            return f"the added token {token['content']!r} is normalized or a single word"
    texts = [token["content"] for token in added]
    for first in texts:
        for second in texts:
            ends = range(1, len(first) if first == second else len(first) + 1)
            if any(second.startswith(first[-n:]) for n in ends) or (
                first != second and first in second
            ):
                return f"the added tokens {first!r} and {second!r} may overlap in a text"
    return None


def _special_tokens(tokenizer):
    around = tokenizer.encode([""])[0]
    if any(around.type_ids) or any(tokenizer.encode(["a a"])[0].type_ids):
        return "texts alone are not in segment 0"
    return None


def _marks(normalizer, vocabulary):
    """Canonical decomposition sorts combining marks by class, the graph does not: that matters for
    marks that the normalizer leaves in, and that are in tokens."""
    if normalizer.normalize_str("\uac00") == "\uac00":
        return None  # It does not decompose.
    for mark in sorted({c for token in vocabulary for c in token if unicodedata.combining(c)}):
        if mark in normalizer.normalize_str(mark):
            return f"the order of the combining mark U+{ord(mark):04X}, which is in a token, counts"
    return None
