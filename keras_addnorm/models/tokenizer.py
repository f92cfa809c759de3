"""Tokenizers of Hugging Face's `tokenizers` library as a KerasHub tokenizer."""

import contextlib
import json
import os
import threading

import keras
import numpy as np
from keras_hub import tokenizers as hub

from keras_addnorm.models import graph, text_inputs
from keras_addnorm.models.transformer_encoder import TransformerEncoder

FILE = "tokenizer.json"
MAX_BYTES = 256 * 2**20
MAX_TOKENS = 2**24  # as many as a `TransformerEncoder` has embeddings for

# The tokens with a role, named as in Hugging Face's tokenizer_config.json.
ROLES = (
    *("pad_token", "unk_token", "cls_token", "sep_token"),
    *("mask_token", "bos_token", "eos_token"),
)

# Truncation is a setting of a `tokenizers.Tokenizer`, not an argument of its calls. One lock for
# all, since a tokenizer with a lock of its own could be neither copied nor pickled.
_LOCK = threading.Lock()


@keras.saving.register_keras_serializable(package="keras_addnorm")
class Tokenizer(hub.Tokenizer):
    """The tokenizer of a `tokenizer.json`: WordPiece, BPE, Unigram or WordLevel.

    Ids are those of the `tokenizers` library, which does the work. `tokenizer.json` is an asset
    of `.keras` files and of KerasHub presets. Padding and truncation that the file asks for are
    left to the preprocessors.

    Args:
        tokenizer_json: the text of a `tokenizer.json`; None for a tokenizer that is loaded with
            `load_assets`, as Keras does.
        pad_token, unk_token, cls_token, sep_token, mask_token, bos_token, eos_token: the tokens
            with these roles, strings of the vocabulary, or None where there is none. Their ids are
            `pad_token_id` and so on.
        dtype: dtype of the ids.

    Call arguments:
        inputs: a string, a list of strings, or a tensor or array of strings.

    Output shape:
        `(tokens,)` for a string; a list of lists for several, or in a TensorFlow graph a ragged
        tensor. No special tokens are added.

    Raises:
        ValueError: if `tokenizer_json` is no valid tokenizer or too large, or lacks a token.

    Example:

    ```python
    text = pathlib.Path("checkpoint/tokenizer.json").read_text(encoding="utf-8")
    tokenizer = Tokenizer(text, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    tokenizer("A cat sits.")  # [1037, 4937, 7719, 1012]
    ```

    Source: WordPiece: Schuster and Nakajima, 2012; BPE: Sennrich et al., arXiv:1508.07909;
    Unigram: Kudo, arXiv:1804.10959.
    """

    backbone_cls = TransformerEncoder

    def __init__(
        self,
        tokenizer_json=None,
        pad_token=None,
        unk_token=None,
        cls_token=None,
        sep_token=None,
        mask_token=None,
        bos_token=None,
        eos_token=None,
        dtype="int32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.pad_token, self.unk_token = pad_token, unk_token
        self.cls_token, self.sep_token = cls_token, sep_token
        self.mask_token = mask_token
        self.bos_token, self.eos_token = bos_token, eos_token
        self.file_assets = [FILE]
        self._special_token_attrs = [role for role in ROLES if getattr(self, role) is not None]
        self._set(None if tokenizer_json is None else parse(tokenizer_json))

    @classmethod
    def from_tokenizers(cls, tokenizer, **kwargs):
        """Makes a `Tokenizer` of a `tokenizers.Tokenizer`, which belongs to it from then on.

        Args:
            tokenizer: a `tokenizers.Tokenizer`.
            **kwargs: arguments of `Tokenizer`, without `tokenizer_json`.
        """
        made = cls(**kwargs)
        made._set(tried(tokenizer))
        return made

    def _set(self, tokenizer):
        """Takes a `tokenizers.Tokenizer`, or None, and looks up the ids of special tokens."""
        self._tokenizer = tokenizer
        vocabulary = {} if tokenizer is None else tokenizer.get_vocab()
        self._vocabulary_size = max(vocabulary.values(), default=-1) + 1
        if self._vocabulary_size > MAX_TOKENS:
            raise ValueError(
                f"Tokenizer: {FILE} is broken: token ids must be below {MAX_TOKENS}. "
                f"Received: {self._vocabulary_size - 1}."
            )
        roles = {role: getattr(self, role) for role in self._special_token_attrs}
        missing = [f"{role}={token!r}" for role, token in roles.items() if token not in vocabulary]
        if tokenizer is not None and missing:
            raise ValueError(
                "Tokenizer: special tokens must be in the vocabulary of `tokenizer_json`. "
                f"Received: {', '.join(missing)}. Correct or leave them out."
            )
        for role in ROLES:
            setattr(self, f"{role}_id", vocabulary.get(getattr(self, role)))

    @property
    def tokenizer(self):
        """The `tokenizers.Tokenizer`; see `encode` for calling it."""
        if self._tokenizer is None:
            raise ValueError(
                "Tokenizer: no tokenizer.json is loaded. Pass its text as `tokenizer_json`, or "
                "call `load_assets` with the folder that holds it."
            )
        return self._tokenizer

    def encode(
        self,
        texts,
        pairs=None,
        max_length=None,
        truncation="longest_first",
        is_pretokenized=False,
        add_special_tokens=True,
    ):
        """Encodes texts with the special tokens of the tokenizer's post-processor.

        Args:
            texts: list of strings; of lists of strings with `is_pretokenized`.
            pairs: the second texts, as many, or None.
            max_length: int, the tokens to cut to, special ones included; None cuts nothing.
            truncation: what is cut: `"longest_first"`, `"only_first"` or `"only_second"`.
            is_pretokenized: bool, whether texts are lists of words.
            add_special_tokens: bool.

        Returns:
            List of `tokenizers.Encoding`: ids, type_ids, offsets, word_ids and more.
        """
        batch = texts if pairs is None else list(zip(texts, pairs, strict=True))
        with _LOCK:
            self.tokenizer.no_truncation()
            if max_length is not None:
                self.tokenizer.enable_truncation(max_length, strategy=truncation)
            try:
                return self.tokenizer.encode_batch(
                    batch, is_pretokenized=is_pretokenized, add_special_tokens=add_special_tokens
                )
            finally:
                self.tokenizer.no_truncation()

    def num_special_tokens(self, is_pair=False):
        """How many special tokens `encode` adds to a text, or to a pair of texts."""
        return self.tokenizer.num_special_tokens_to_add(is_pair)

    @property
    def joins_words(self):
        """Whether words given as a list would be encoded as one: BPE that marks spaces itself."""
        return _has_level_without_prefix(json.loads(self.tokenizer.pre_tokenizer.__getstate__()))

    def tokenize(self, inputs):
        """Token ids of a string or of several; see the call arguments."""
        if graph.in_graph():
            return self._tokenize_in_graph(inputs)
        texts, is_batch = text_inputs.to_texts(inputs)
        ids = [e.ids for e in self.encode(texts, add_special_tokens=False)]
        return ids if is_batch else np.array(ids[0], self.compute_dtype)

    def _tokenize_in_graph(self, inputs):
        import tensorflow as tf

        def flat_ids(inputs):
            texts, _ = text_inputs.to_texts(inputs)
            rows = [encoding.ids for encoding in self.encode(texts, add_special_tokens=False)]
            flat = [id for row in rows for id in row]
            return np.array(flat, self.compute_dtype), np.array([len(r) for r in rows], "int64")

        flat, lengths = tf.numpy_function(flat_ids, [inputs], [self.compute_dtype, "int64"])
        flat.set_shape([None])
        lengths.set_shape(inputs.shape if inputs.shape.rank else [1])
        return tf.RaggedTensor.from_row_lengths(flat, lengths) if inputs.shape.rank else flat

    def detokenize(self, inputs, skip_special_tokens=False):
        """The text of token ids.

        Args:
            inputs: ids `(tokens,)`, or several rows of them as a list or a `(batch, tokens)` array.
            skip_special_tokens: bool, whether special tokens are left out.

        Returns:
            A string, or a list of strings.
        """
        rows = inputs if isinstance(inputs, (list, tuple)) else np.asarray(inputs)
        is_batch = len(rows) > 0 and np.ndim(rows[0]) > 0
        decode = self.tokenizer.decode_batch if is_batch else self.tokenizer.decode
        ids = [np.asarray(row).tolist() for row in rows]
        return decode(ids, skip_special_tokens=skip_special_tokens)

    def call(self, inputs, training=None):
        return self.tokenize(inputs)

    def vocabulary_size(self):
        """The number of token ids: the largest one, plus 1; 0 before a file is loaded."""
        return self._vocabulary_size

    def get_vocabulary(self):
        """All tokens in the order of their ids; an id that is no token gives an empty string."""
        tokens = {id: token for token, id in self.tokenizer.get_vocab().items()}
        return [tokens.get(id, "") for id in range(self.vocabulary_size())]

    def id_to_token(self, id):
        """The token with an id."""
        token = self.tokenizer.id_to_token(id) if 0 <= id < 2**32 else None
        if token is None:
            raise ValueError(
                f"Tokenizer: `id` must be that of a token, below {self.vocabulary_size()}. "
                f"Received: id={id}."
            )
        return token

    def token_to_id(self, token):
        """The id of a token."""
        id = self.tokenizer.token_to_id(token)
        if id is None:
            raise ValueError(
                f"Tokenizer: `token` must be in the vocabulary. Received: token={token!r}."
            )
        return id

    def to_json(self):
        """The text of `tokenizer.json`."""
        return self.tokenizer.to_str()

    def save_assets(self, dir_path):
        with open(os.path.join(dir_path, FILE), "w", encoding="utf-8", newline="\n") as file:
            file.write(self.to_json())

    def load_assets(self, dir_path):
        self._set(parse(read(os.path.join(dir_path, FILE))))

    def get_config(self):
        roles = {role: getattr(self, role) for role in ROLES}
        return {**super().get_config(), "tokenizer_json": None, **roles}  # The JSON is an asset.


def _has_level_without_prefix(pre_tokenizer):
    if pre_tokenizer.get("type") == "Sequence":
        return any(map(_has_level_without_prefix, pre_tokenizer.get("pretokenizers", [])))
    return pre_tokenizer.get("type") == "ByteLevel" and not pre_tokenizer["add_prefix_space"]


def read(path):
    """The text of a `tokenizer.json`.

    Raises:
        ValueError: if the file is too large or not UTF-8.
    """
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"{FILE} must not be larger than {MAX_BYTES} bytes.")
    with open(path, encoding="utf-8") as file:
        try:
            return file.read(MAX_BYTES)
        except UnicodeDecodeError as error:
            raise ValueError(f"{FILE} must be UTF-8: {error}.") from error


def parse(text):
    """Makes a `tokenizers.Tokenizer` from the text of a `tokenizer.json`, and tries it out.

    Raises:
        ValueError: if it is too large, is no tokenizer, or does not work.
    """
    import tokenizers

    if not isinstance(text, str) or len(text) > MAX_BYTES:
        received = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
        raise ValueError(
            f"Tokenizer: `tokenizer_json` must be the text of a {FILE}, of at most {MAX_BYTES} "
            f"characters. Received: {received}."
        )
    with errors_of_rust():
        tokenizer = tokenizers.Tokenizer.from_str(text)
    return tried(tokenizer)


def tried(tokenizer):
    """A `tokenizers.Tokenizer` that neither pads nor cuts, if it works.

    Raises:
        ValueError: if it fails, or adds ids that are no tokens.
    """
    with errors_of_rust():
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode("A \u00e9\U0010ffff.")  # Without its unknown token it raises here.
        added = set(tokenizer.encode("").ids + tokenizer.encode("", "").ids)
    unknown = sorted(id for id in added if tokenizer.id_to_token(id) is None)
    if unknown:
        raise ValueError(f"Tokenizer: {FILE} is broken: it adds the ids {unknown}, no tokens.")
    return tokenizer


@contextlib.contextmanager
def errors_of_rust(what=f"Tokenizer: {FILE}", let_through=()):
    """Turns what a Rust library raises on a broken file into a ValueError."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, *let_through):
        raise
    except BaseException as error:  # A panic is no Exception.
        raise ValueError(f"{what} is broken: {error}") from error
