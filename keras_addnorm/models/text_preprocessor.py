"""What the preprocessors of all text tasks share: strings in, padded token ids out."""

import keras
import numpy as np
from keras_hub import models as hub

from keras_addnorm.layers import checks
from keras_addnorm.models import graph, text_inputs
from keras_addnorm.models.tokenizer import Tokenizer
from keras_addnorm.models.transformer_encoder import TransformerEncoder

INPUTS = ("token_ids", "padding_mask", "segment_ids")


class TextPreprocessor(hub.Preprocessor):
    """Tokenizes, truncates and pads to `sequence_length`; to be inherited by the tasks' own.

    Special tokens, segments and the truncation of pairs (the longer text first) are those of the
    `tokenizers` library. The work is done in Python; in a TensorFlow graph, such as that of
    `tf.data.Dataset.map`, through `tf.numpy_function`.

    A subclass that makes labels overrides `_parts`, `_prepare` and `_specs`.

    Args:
        tokenizer: a `Tokenizer` with a `pad_token`.
        sequence_length: int, the length of all outputs; longer texts are cut.
    """

    backbone_cls = TransformerEncoder
    tokenizer_cls = Tokenizer

    def __init__(self, tokenizer, sequence_length=512, **kwargs):
        # Not KerasHub's `__init__` of the task: its packer knows only [CLS] and [SEP].
        own = {name: value for name, value in kwargs.items() if name != "config_file"}
        checks.known_arguments(type(self), own)
        hub.Preprocessor.__init__(self, **kwargs)
        if not isinstance(tokenizer, Tokenizer):
            raise ValueError(
                f"{type(self).__name__}: `tokenizer` must be a keras_addnorm Tokenizer. "
                f"Received: an object of type {type(tokenizer).__name__}. Tokenizers of KerasHub "
                "go with the preprocessors of KerasHub."
            )
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length

    @property
    def sequence_length(self):
        """The length that texts are padded or cut to."""
        return self._sequence_length

    @sequence_length.setter
    def sequence_length(self, value):
        self._sequence_length = checks.positive_int(
            type(self).__name__, "sequence_length", value, limit=2**20
        )

    def build(self, input_shape):
        """Nothing to build."""

    def __call__(self, x, *args, **kwargs):
        # KerasHub takes a lone tuple for (x, y). Two texts are a pair: labels are no strings.
        if not args and "y" not in kwargs and text_inputs.is_pair_of_texts(x):
            kwargs["y"] = None
        return super().__call__(x, *args, **kwargs)

    def call(self, x, y=None, sample_weight=None):
        parts = self._parts(x, y, sample_weight)
        is_batch = self._is_batch(parts[0])

        def prepare(*parts):
            made = self._prepare(*parts)
            return made if is_batch else keras.tree.map_structure(lambda array: array[0], made)

        if graph.in_graph():
            shape = tuple(parts[0].shape[:1]) if is_batch else ()
            made = graph.call_in_graph(prepare, parts, self._specs(shape, len(parts)))
        else:
            made = keras.tree.map_structure(keras.ops.convert_to_tensor, prepare(*parts))
        return keras.utils.pack_x_y_sample_weight(
            made["x"], made.get("y", y), made.get("sample_weight", sample_weight)
        )

    def _parts(self, x, y, sample_weight):
        """What `_prepare` works on, a list of arrays, tensors or strings: here only texts."""
        return list(split_pair(type(self).__name__, x))

    def _is_batch(self, texts):
        if isinstance(texts, (str, bytes)):
            return False
        return isinstance(texts, (list, tuple)) or len(texts.shape) > 0

    def _prepare(self, *parts):
        """From `_parts` to a dict of arrays of a batch: `x`, and `y` and `sample_weight` if made.

        Whatever is not made is passed on as it was received.
        """
        return {"x": self.tokenize(parts)}

    def _specs(self, batch_shape, num_parts):
        """What `_prepare` returns for so many parts, as `keras.KerasTensor`."""
        shape = (*batch_shape, self.sequence_length)
        return {"x": {name: keras.KerasTensor(shape, "int32") for name in INPUTS}}

    def encode(self, texts, pairs=None, length=None, **kwargs):
        """Encodes texts as the outputs are, but without padding.

        Args:
            texts, pairs, **kwargs: as in `Tokenizer.encode`.
            length: int, instead of `sequence_length`.

        Returns:
            List of `tokenizers.Encoding`.
        """
        length = length or self.sequence_length
        needed = self.tokenizer.num_special_tokens(pairs is not None) + 1
        if length < needed:
            raise ValueError(
                f"{type(self).__name__}: `sequence_length` must leave room for the tokenizer's "
                f"special tokens, so it must be at least {needed}. "
                f"Received: sequence_length={length}."
            )
        return self.tokenizer.encode(texts, pairs, max_length=length, **kwargs)

    def pad(self, encodings, length=None):
        """Pads encodings to arrays.

        Args:
            encodings: list of `tokenizers.Encoding`.
            length: int, instead of `sequence_length`.

        Returns:
            Dict of int32 arrays `token_ids`, `padding_mask` and `segment_ids`, each
            `(len(encodings), length)`.
        """
        pad = self.tokenizer.pad_token_id
        if pad is None:
            raise ValueError(
                f"{type(self).__name__}: the tokenizer must have a `pad_token`. "
                "Received: pad_token=None. Pass it to Tokenizer, for instance pad_token='[PAD]'."
            )
        shape = (len(encodings), length or self.sequence_length)
        arrays = [np.full(shape, value, "int32") for value in (pad, 0, 0)]
        for row, encoding in enumerate(encodings):
            size = len(encoding.ids)
            for array, values in zip(arrays, (encoding.ids, 1, encoding.type_ids), strict=True):
                array[row, :size] = values
        return dict(zip(INPUTS, arrays, strict=True))

    def tokenize(self, x, length=None):
        """Inputs of the encoder for texts, without labels.

        Args:
            x: list of strings, or a tuple of two such lists, the pairs.
            length: int, instead of `sequence_length`.

        Returns:
            Dict of int32 arrays; see `pad`.
        """
        texts = [text_inputs.to_texts(part)[0] for part in split_pair(type(self).__name__, x)]
        return self.pad(self.encode(*texts, length=length), length)

    def _offsets(self, encodings, sequence):
        """Characters of the tokens of one of the texts, (-1, -1) elsewhere."""
        offsets = np.full((len(encodings), self.sequence_length, 2), -1, "int32")
        for row, encoding in zip(offsets, encodings, strict=True):
            for position, (text, span) in enumerate(
                zip(encoding.sequence_ids, encoding.offsets, strict=True)
            ):
                if text == sequence:
                    row[position] = span
        return offsets

    def get_config(self):
        config = hub.Preprocessor.get_config(self)
        return {**config, "sequence_length": self.sequence_length}


def split_pair(owner, x):
    """`x` as a tuple: `(texts,)`, or `(texts, pairs)`."""
    x = x if isinstance(x, tuple) else (x,)
    if len(x) not in (1, 2):
        raise ValueError(
            f"{owner}: `x` must be texts, or a tuple of two of them for pairs. "
            f"Received: a tuple of {len(x)}. Pass several texts as a list."
        )
    return x
