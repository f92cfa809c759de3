"""From words and their labels to the inputs and labels of a `TokenClassifier`."""

import keras
import numpy as np

from keras_addnorm.models import text_inputs
from keras_addnorm.models.text_preprocessor import TextPreprocessor

# The label of positions that do not count, as in torch and transformers.
IGNORED = -100


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TokenClassifierPreprocessor(TextPreprocessor):
    """Tokenizes words and moves the label of each word to its first token.

    A word can become several tokens. Its first token gets its label; the others, the special
    tokens and the padding get -100, which a `TokenClassifier` does not count.

    Args:
        tokenizer: a `Tokenizer` with a `pad_token`.
        sequence_length: int, the length of all outputs; longer texts are cut.

    Call arguments:
        x: sentences as lists of words, such as `[["A", "cat"], ["Yes", "."]]`, or a ragged tensor
            of words. Without labels also a string or a list of strings, tokenized as running text.
        y: an int for each word, in the structure of `x`; -100 for a word that does not count.
        sample_weight: passed through.

    Output shape:
        A dict of int32 `token_ids`, `padding_mask` (1 for tokens, 0 for padding) and
        `segment_ids`, each `(batch, sequence_length)`; with `y`, a tuple of the dict and int32
        labels of that shape.

    Raises:
        ValueError: on an invalid argument, or if words and labels are not as many.

    Example:

    ```python
    preprocessor = TokenClassifierPreprocessor(tokenizer, sequence_length=128)
    inputs, labels = preprocessor([["Ada", "Lovelace", "wrote"]], [[1, 2, 0]])

    text = "Ada Lovelace wrote."
    classes = task.predict([text])[0].argmax(-1)
    for (start, end), label in zip(preprocessor.offsets([text])[0], classes):
        if end > start:  # not of special tokens and padding
            print(text[start:end], label)
    ```
    """

    def _parts(self, x, y, sample_weight):
        if y is not None and not text_inputs.are_words(x):
            raise ValueError(
                "TokenClassifierPreprocessor: `x` must be a list of lists of words where there "
                "are labels. Received: texts that are not split. Split them, as in "
                "[['A', 'cat'], ['Yes', '.']]."
            )
        return [x] if y is None else [x, y]

    def _is_batch(self, texts):
        return text_inputs.are_words(texts) or super()._is_batch(texts)

    def _encode(self, x):
        if not text_inputs.are_words(x):
            return self.encode(text_inputs.to_texts(x)[0])
        if self.tokenizer.joins_words:
            raise ValueError(
                "TokenClassifierPreprocessor: words need a tokenizer that puts a space before "
                "each. Received: one of byte-level BPE with add_prefix_space=false, which would "
                "join them. Set add_prefix_space to true in its tokenizer.json."
            )
        return self.encode(text_inputs.to_words(x), is_pretokenized=True)

    def _prepare(self, x, y=None):
        encodings = self._encode(x)
        made = {"x": self.pad(encodings)}
        if y is None:
            return made
        labels = np.full((len(encodings), self.sequence_length), IGNORED, "int32")
        rows = zip(encodings, text_inputs.to_words(x), y, strict=True)
        for row, (encoding, words, values) in enumerate(rows):
            if len(words) != len(values):
                raise ValueError(
                    "TokenClassifierPreprocessor: `y` must have a label for each word. "
                    f"Received: {len(words)} words and {len(values)} labels in row {row}."
                )
            previous = None
            for position, word in enumerate(encoding.word_ids):
                if word is not None and word != previous:
                    labels[row, position] = values[word]
                previous = word
        return {**made, "y": labels}

    def _specs(self, batch_shape, num_parts):
        specs = super()._specs(batch_shape, num_parts)
        if num_parts == 1:
            return specs
        shape = (*batch_shape, self.sequence_length)
        return {**specs, "y": keras.KerasTensor(shape, "int32")}

    def offsets(self, x):
        """Where the tokens of `x` are: int32 `(batch, sequence_length, 2)`.

        Of each token the first character in its text, or in its word where `x` is split into
        words, and the one after its last; (-1, -1) for special tokens and padding.
        """
        return self._offsets(self._encode(x), sequence=0)

    def word_ids(self, x):
        """Which word the tokens of `x` belong to: int32 `(batch, sequence_length)`.

        The index of the word in its sentence; -1 for special tokens and padding.
        """
        encodings = self._encode(x)
        ids = np.full((len(encodings), self.sequence_length), -1, "int32")
        for row, encoding in zip(ids, encodings, strict=True):
            row[: len(encoding.ids)] = [-1 if word is None else word for word in encoding.word_ids]
        return ids
