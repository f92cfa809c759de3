"""What `Embedder` and `Classifier` share: texts in, a row of numbers for each out."""

import itertools
import os

import numpy as np

from keras_addnorm.text.bundle import (
    MAX_LENGTH,
    MAX_MODEL_BYTES,
    MAX_TOKENIZER_BYTES,
    VECTORS,
    open_bundle,
)
from keras_addnorm.text.engine import Engine, read_signatures
from keras_addnorm.text.errors import BundleError
from keras_addnorm.text.fields import BROKEN

BATCH_SIZE = 1024  # texts that are tokenized and sorted by length together
MAX_THREADS = 256


class TextModel:
    """The model and tokenizer of a bundle; to be inherited by what names the outputs.

    Args:
        folder: path of the bundle.
        num_threads: int, how many texts are computed at once; None for one a CPU core.

    Attributes:
        max_length: int, tokens of a text; longer texts are cut.
    """

    task = None

    def __init__(self, folder, num_threads=None):
        num_threads = _cores() if num_threads is None else num_threads
        num_threads = _checked("num_threads", num_threads, MAX_THREADS)
        self._bundle = bundle = open_bundle(folder, self.task)
        settings = bundle.manifest.section("tokenizer")
        self.max_length = settings.whole("max_length", 1, MAX_LENGTH)
        self._tokenizer = _load_tokenizer(bundle, settings, self.max_length)
        pad_id = settings.whole("pad_token_id", 0, 2**31 - 1)
        model = bundle.manifest.section("model")
        signatures = read_signatures(model)
        longest = signatures[-1].length
        if longest is not None and longest < self.max_length:
            raise settings.error(f"has a max_length above {longest}, which the model takes")
        self._features = signatures[0].features
        if any(signature.features != self._features for signature in signatures):
            raise model.error("must have signatures with outputs of one size")
        data = bundle.read(model.get("file", str), MAX_MODEL_BYTES)
        self._engine = Engine(data, signatures, pad_id, num_threads)

    def check(self):
        """Compares the tokenizer with the bundle's test vectors.

        Returns:
            int, the number of vectors.

        Raises:
            BundleError: if a text gets other ids than when the bundle was made.
        """
        fields = self._bundle.read_json(VECTORS)
        cases = fields.sections("cases", 2**16)
        for case in cases:
            text, ids = case.get("text", str), case.ids("ids", MAX_LENGTH)
            (found,) = self._tokenizer.encode_batch([text])
            if found.ids != ids:
                raise BundleError(
                    f"The tokenizer gives {found.ids[:8]}.. for {ascii(text)[:60]}, and gave "
                    f"{ids[:8]}.. when {self._bundle.folder} was made. Install the version of "
                    "tokenizers that report.json names."
                )
        return len(cases)

    def cut(self, texts):
        """The indices of the texts of a list that are longer than `max_length` tokens."""
        texts = list(_checked_iterable(texts))
        for index, text in enumerate(texts):
            _check_text(text, index)
        encodings = self._tokenizer.encode_batch(texts)
        return [index for index, encoding in enumerate(encodings) if encoding.overflowing]

    def _run(self, texts, batch_size):
        """float32 array `(len(texts), features)` of a list of strings."""
        parts = list(self._windows(_checked_iterable(texts), batch_size))
        return np.concatenate([np.empty((0, self._features), "float32"), *parts])

    def _windows(self, texts, batch_size):
        """The outputs of `batch_size` texts after the other, of any iterable."""
        batch_size = _checked("batch_size", batch_size, 2**20)
        texts, start = iter(texts), 0
        while window := list(itertools.islice(texts, batch_size)):
            for index, text in enumerate(window, start):
                _check_text(text, index)
            encodings = self._tokenizer.encode_batch(window)
            rows = [encoding.ids for encoding in encodings]
            yield self._engine(rows, [encoding.type_ids for encoding in encodings])
            start += len(window)


def _cores():
    affinity = getattr(os, "sched_getaffinity", None)  # Not on macOS and Windows.
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, MAX_THREADS)


def _checked(name, value, most):
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(
            f"`{name}` must be an int from 1 to {most}. Received: {name}={value!r}. "
            "Leave it out for the default."
        )
    return value


def _checked_iterable(texts):
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__iter__"):
        raise _no_texts("texts", texts, "a list of strings", "Wrap it in a list.")
    return texts


def _check_text(text, index):
    if not isinstance(text, str):
        raise _no_texts(f"text {index}", text, "a string", "Decode or leave it out.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Texts must be strings that UTF-8 can hold. Received: text {index}, with half a "
            f"surrogate pair at {error.start}. Decode its source with errors='replace'."
        ) from error


def _no_texts(name, value, rule, advice):
    return ValueError(
        f"`{name}` must be {rule}. Received: {ascii(value)[:60]} of type "
        f"{type(value).__name__}. {advice}"
    )


def _load_tokenizer(bundle, settings, max_length):
    from tokenizers import Tokenizer

    name = settings.get("file", str)
    data = bundle.read(name, MAX_TOKENIZER_BYTES)
    try:
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        tokenizer.encode("A \u00e9\U0010ffff.")  # Without its unknown token it raises here.
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # A panic in Rust is no Exception.
        raise BundleError(f"{bundle.folder / name} is no tokenizer: {error}. {BROKEN}") from error
    if max_length < tokenizer.num_special_tokens_to_add(False):
        raise settings.error("has a max_length below the number of special tokens")
    return tokenizer
