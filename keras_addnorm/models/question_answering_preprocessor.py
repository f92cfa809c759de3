"""From questions and contexts to the inputs and labels of `QuestionAnswering`."""

import keras
import numpy as np

from keras_addnorm.models import text_inputs
from keras_addnorm.models.text_preprocessor import TextPreprocessor, split_pair


@keras.saving.register_keras_serializable(package="keras_addnorm")
class QuestionAnsweringPreprocessor(TextPreprocessor):
    """Tokenizes questions and the contexts that hold their answers.

    Only the context is cut. A question whose answer is not in what is left of the context, or
    that has none, is labelled with position 0, the first special token.

    Args:
        tokenizer: a `Tokenizer` with a `pad_token`.
        sequence_length: int, the length of all outputs; longer contexts are cut.

    Call arguments:
        x: a tuple `(questions, contexts)` of strings, lists of strings, or tensors of strings.
        y: a tuple `(starts, ends)` of ints: in each context the first character of the answer, and
            the one after its last; a negative start where there is no answer.
        sample_weight: passed through.

    Output shape:
        A dict of int32 `token_ids`, `padding_mask` (1 for tokens, 0 for padding) and
        `segment_ids`, each `(batch, sequence_length)`; with `y`, a tuple of it and a dict of the
        positions of the answers' first and last tokens, `start_logits` and `end_logits` (named
        as the outputs that they are the labels of), int32 `(batch,)`.

    Raises:
        ValueError: on an invalid argument, or if a question leaves no room for its context.

    Example:

    ```python
    preprocessor = QuestionAnsweringPreprocessor(tokenizer, sequence_length=384)
    x = ["Who wrote?"], ["Ada Lovelace wrote."]
    inputs, labels = preprocessor(x, ([0], [12]))
    preprocessor.answers(x, labels["start_logits"], labels["end_logits"])  # ["Ada Lovelace"]
    ```

    Source: Devlin et al., arXiv:1810.04805, section 4.2.
    """

    def _parts(self, x, y, sample_weight):
        if not (isinstance(x, tuple) and len(x) == 2):
            raise ValueError(
                "QuestionAnsweringPreprocessor: `x` must be a tuple (questions, contexts). "
                f"Received: an object of type {type(x).__name__}."
            )
        if y is not None and not (isinstance(y, tuple) and len(y) == 2):
            raise ValueError(
                "QuestionAnsweringPreprocessor: `y` must be a tuple (starts, ends), characters of "
                f"the contexts. Received: an object of type {type(y).__name__}."
            )
        return [*x, *(y or ())]

    def _encode(self, x):
        questions, contexts = (text_inputs.to_texts(texts)[0] for texts in x)
        room = self.sequence_length - self.tokenizer.num_special_tokens(is_pair=True)
        encoded = self.tokenizer.encode(questions, add_special_tokens=False)
        longest = max((len(encoding.ids) for encoding in encoded), default=0)
        if longest >= room:
            raise ValueError(
                "QuestionAnsweringPreprocessor: a question must leave room for its context. "
                f"Received: a question of {longest} tokens, with sequence_length="
                f"{self.sequence_length}. Raise `sequence_length`, or shorten the question."
            )
        return self.encode(questions, contexts, truncation="only_second")

    def _prepare(self, questions, contexts, starts=None, ends=None):
        encodings = self._encode((questions, contexts))
        made = {"x": self.pad(encodings)}
        if starts is None:
            return made
        offsets = self._offsets(encodings, sequence=1)
        characters = zip(np.atleast_1d(starts), np.atleast_1d(ends), strict=True)
        spans = [_span(row, *pair) for row, pair in zip(offsets, characters, strict=True)]
        positions = np.array(spans, "int32").reshape(-1, 2)
        return {**made, "y": {"start_logits": positions[:, 0], "end_logits": positions[:, 1]}}

    def _specs(self, batch_shape, num_parts):
        specs = super()._specs(batch_shape, num_parts)
        if num_parts == 2:
            return specs
        position = keras.KerasTensor(batch_shape, "int32")
        return {**specs, "y": {"start_logits": position, "end_logits": position}}

    def offsets(self, x):
        """Where the tokens of the contexts are: int32 `(batch, sequence_length, 2)`.

        Of each token the first character in its context, and the one after its last; (-1, -1) for
        special tokens, padding, and the tokens of the question.
        """
        return self._offsets(self._encode(split_pair(type(self).__name__, x)), sequence=1)

    def answers(self, x, starts, ends):
        """The parts of the contexts between two tokens.

        Args:
            x: a tuple `(questions, contexts)`.
            starts, ends: ints `(batch,)`, positions of the first and the last token.

        Returns:
            List of strings, empty where a position is not in the context or `end < start`.
        """
        contexts, _ = text_inputs.to_texts(x[1])
        found = []
        rows = zip(contexts, self.offsets(x), np.ravel(starts), np.ravel(ends), strict=True)
        for context, offsets, start, end in rows:
            inside = start <= end and offsets[start, 0] >= 0 and offsets[end, 0] >= 0
            found.append(context[offsets[start, 0] : offsets[end, 1]] if inside else "")
        return found


def _span(offsets, start, end):
    """Positions of the first and last token that share characters with `start` to `end`."""
    inside = np.flatnonzero(offsets[:, 0] >= 0)
    touched = inside[(offsets[inside, 1] > start) & (offsets[inside, 0] < end)]
    # Where the context is cut off, half an answer is none.
    whole = touched.size and offsets[inside[0], 0] <= start and end <= offsets[inside[-1], 1]
    return (touched[0], touched[-1]) if start >= 0 and whole else (0, 0)
