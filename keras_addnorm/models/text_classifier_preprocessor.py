"""From strings to the inputs of a `TextClassifier`."""

import keras
from keras_hub import models as hub

from keras_addnorm.models.text_preprocessor import TextPreprocessor


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TextClassifierPreprocessor(TextPreprocessor, hub.TextClassifierPreprocessor):
    """Tokenizes texts, or pairs of texts, for a `TextClassifier`.

    Special tokens, segments and truncation (of a pair the longer text first) are those of the
    `tokenizers` library.

    Args:
        tokenizer: a `Tokenizer` with a `pad_token`.
        sequence_length: int, the length of all outputs; longer texts are cut.

    Call arguments:
        x: a string, a list of strings, or a tensor of strings; a tuple of two for pairs.
        y, sample_weight: passed through.

    Output shape:
        A dict of int32 `token_ids`, `padding_mask` (1 for tokens, 0 for padding) and
        `segment_ids`, each `(batch, sequence_length)`; with `y`, a tuple of the dict and `y`.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    preprocessor = TextClassifierPreprocessor(tokenizer, sequence_length=128)
    inputs, labels = preprocessor((premises, hypotheses), labels)
    ```
    """
