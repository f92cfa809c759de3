"""From strings to the inputs and labels of a `MaskedLM`."""

import keras
import numpy as np
from keras_hub import layers as hub_layers
from keras_hub import models as hub

from keras_addnorm.layers import checks
from keras_addnorm.models.text_preprocessor import TextPreprocessor


@keras.saving.register_keras_serializable(package="keras_addnorm")
class MaskedLMPreprocessor(TextPreprocessor, hub.MaskedLMPreprocessor):
    """Tokenizes texts and masks some of their tokens, which become the labels.

    Of the tokens that are not special, `mask_selection_rate` are selected, anew in each call. A
    selected token is replaced by the mask token at the rate `mask_token_rate`, by a random token at
    the rate `random_token_rate`, and otherwise kept; see `keras_hub.layers.MaskedLMMaskGenerator`.

    Args:
        tokenizer: a `Tokenizer` with a `pad_token` and a `mask_token`.
        sequence_length: int, the length of all outputs; longer texts are cut.
        mask_selection_rate, mask_token_rate, random_token_rate: floats in [0, 1].
        mask_selection_length: int, the most tokens of a text that are selected.

    Call arguments:
        x: a string, a list of strings, or a tensor of strings; a tuple of two for pairs.

    Output shape:
        A tuple: a dict of int32 `token_ids`, `padding_mask` and `segment_ids`, each
        `(batch, sequence_length)`, and `mask_positions`; the labels, int32; and their weights,
        float32, 0 where fewer tokens were selected. The last three are `(batch,
        mask_selection_length)`.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=128, mask_selection_length=20)
    inputs, labels, weights = preprocessor(["A cat sits on the mat."])
    ```

    Source: Devlin et al., arXiv:1810.04805, section 3.1.
    """

    def __init__(
        self,
        tokenizer,
        sequence_length=512,
        mask_selection_rate=0.15,
        mask_selection_length=96,
        mask_token_rate=0.8,
        random_token_rate=0.1,
        **kwargs,
    ):
        super().__init__(tokenizer, sequence_length, **kwargs)
        owner = "MaskedLMPreprocessor"
        self.mask_selection_rate = _share(owner, "mask_selection_rate", mask_selection_rate)
        self.mask_selection_length = checks.positive_int(
            owner, "mask_selection_length", mask_selection_length, limit=2**20
        )
        self.mask_token_rate = _share(owner, "mask_token_rate", mask_token_rate)
        self.random_token_rate = _share(owner, "random_token_rate", random_token_rate)

    def _parts(self, x, y, sample_weight):
        if y is not None or sample_weight is not None:
            raise ValueError(
                "MaskedLMPreprocessor: `y` and `sample_weight` must be None, since labels and "
                "weights are made from the texts. Received one of them. Leave them out."
            )
        return super()._parts(x, y, sample_weight)

    def _prepare(self, *parts):
        inputs = self.tokenize(parts)
        masked = {name: np.asarray(x) for name, x in self._mask(inputs["token_ids"]).items()}
        positions = masked["mask_positions"]
        x = {**inputs, "token_ids": masked["token_ids"], "mask_positions": positions}
        return {"x": x, "y": masked["mask_ids"], "sample_weight": masked["mask_weights"]}

    def _mask(self, token_ids):
        if self.tokenizer.mask_token_id is None:
            raise ValueError(
                "MaskedLMPreprocessor: the tokenizer must have a `mask_token`. "
                "Received: mask_token=None. Pass it to Tokenizer, for instance mask_token='[MASK]'."
            )
        generator = hub_layers.MaskedLMMaskGenerator(
            vocabulary_size=self.tokenizer.vocabulary_size(),
            mask_selection_rate=self.mask_selection_rate,
            mask_token_id=self.tokenizer.mask_token_id,
            mask_selection_length=self.mask_selection_length,
            unselectable_token_ids=self.tokenizer.special_token_ids,
            mask_token_rate=self.mask_token_rate,
            random_token_rate=self.random_token_rate,
        )
        return generator(token_ids)

    def _specs(self, batch_shape, num_parts):
        specs = super()._specs(batch_shape, num_parts)
        shape = (*batch_shape, self.mask_selection_length)
        specs["x"]["mask_positions"] = keras.KerasTensor(shape, "int32")
        weights = keras.KerasTensor(shape, "float32")
        return {**specs, "y": keras.KerasTensor(shape, "int32"), "sample_weight": weights}

    def get_config(self):
        names = (
            *("mask_selection_rate", "mask_selection_length"),
            *("mask_token_rate", "random_token_rate"),
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _share(owner, name, value):
    value = checks.finite(owner, name, value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"{owner}: `{name}` must be from 0 to 1. Received: {name}={value!r}. "
            "Pass a share, such as 0.15."
        )
    return value
