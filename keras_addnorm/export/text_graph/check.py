"""Proof that a SavedModel makes of strings what the Keras model and its tokenizer make of them."""

import random

import numpy as np

from keras_addnorm.export.errors import VerificationError
from keras_addnorm.export.samples import SENTENCES
from keras_addnorm.export.text_graph.signatures import TEXT, max_length
from keras_addnorm.export.vectors import TEXTS
from keras_addnorm.export.verify import verify

# Beside those that travel with bundles: lone controls, words at the limit of length, long texts.
ODD_TEXTS = (
    *TEXTS,
    *("\0", "a\0b", "\ufeff", "\u1e9e\u00df", "\u03a3\u03bf\u03c6\u03cc\u03c2"),
    *("b" * 100, "d" * 5000, "word " * 2000, "1" * 300, "\uac00" * 40, "x\u0301" * 101),
)
# Whose outputs are compared too: of no token, of accents, of words that are unknown.
SOME_ODD_TEXTS = ("", *TEXTS[4:8])


def verify_texts(exported, text, reference, recipe, seed=0):
    """Compares what a loaded SavedModel makes of strings with the Keras model.

    Ids must be the same on odd texts, on texts with added tokens in literal form, and on random
    texts of the vocabulary; outputs must agree on sentences.

    Args:
        exported: a `runtime.SavedModel`.
        text: the `TextSignatures` that it was made with.
        reference: the Keras model as a function of a dict of arrays.
        recipe: the `Recipe` whose tolerance counts.
        seed: int.

    Returns:
        Dict: `texts`, how many ids were compared of, and `verification`, an `OutputDifference` by
        output name.

    Raises:
        VerificationError: naming the first text, or the outputs that are too far off.
    """
    preprocessor = text.model.preprocessor
    batch, length = exported.inputs[0].shape
    limit = max_length(text.model, length)
    texts = [*ODD_TEXTS, *SENTENCES, *random_texts(preprocessor.tokenizer, seed)]
    tokens = run(exported.signatures["tokenize"], texts, batch)
    for row, encoding in enumerate(preprocessor.encode(texts, length=limit)):
        real = tokens["padding_mask"][row].astype(bool)
        if tokens["token_ids"][row][real].tolist() != encoding.ids:
            raise VerificationError(
                f"The graph's ids of the text {texts[row][:80]!r} are not the tokenizer's. Export "
                "with text=False, and report the tokenizer."
            )

    def expected(sample):
        encodings = preprocessor.encode(sample[TEXT].tolist(), length=limit)
        longest = max(len(encoding.ids) for encoding in encodings)
        return reference(preprocessor.pad(encodings, length or longest))

    def received(sample):
        return run(exported.signatures["serve_text"], sample[TEXT].tolist(), batch)

    sample = {TEXT: np.array([*SENTENCES, *SOME_ODD_TEXTS], object)}
    return {"texts": len(texts), "verification": verify(expected, received, [sample], recipe)}


def random_texts(tokenizer, seed, count=300):
    """Texts of tokens, punctuation, added tokens and random characters."""
    rng = random.Random(seed)
    vocabulary = [token.removeprefix("##") for token in tokenizer.get_vocabulary()]
    added = [token.content for token in tokenizer.tokenizer.get_added_tokens_decoder().values()]
    others = [*added, *"\u00a0.-[\u0301A"]
    texts = []
    for _ in range(count):
        parts = rng.choices(vocabulary, k=rng.randint(1, 40))
        for _ in range(rng.randint(0, len(parts) // 2)):
            code = rng.choice([rng.randrange(0x20, 0xD800), rng.randrange(0x1F300, 0x1F700)])
            parts.insert(rng.randrange(len(parts)), rng.choice([chr(code), rng.choice(others)]))
        texts.append("".join(part + rng.choice(["", " ", " "]) for part in parts))
    return texts


def run(signature, texts, batch=None):
    """Runs a signature of strings, in batches of its size; rows padded with 0 to the longest."""
    import tensorflow as tf

    step = batch or len(texts)
    rows = {}
    for start in range(0, len(texts), step):
        part = texts[start : start + step]
        part = tf.constant(part + part[-1:] * (step - len(part)))
        for name, values in signature(**{TEXT: part}).items():
            rows.setdefault(name, []).extend(values.numpy())
    return {name: _stacked(values[: len(texts)]) for name, values in rows.items()}


def _stacked(rows):
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
