"""Masked language modelling: the pretraining task, with logits tied to the token embeddings."""

import keras
from keras_hub import layers as hub_layers
from keras_hub import models as hub

from keras_addnorm.layers.activations import get_activation
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.quantization import layer_config
from keras_addnorm.models.task import EncoderTask
from keras_addnorm.models.transformer_encoder import TransformerEncoder


@keras.saving.register_keras_serializable(package="keras_addnorm")
class MaskedLMPreprocessor(hub.BertMaskedLMPreprocessor):
    """KerasHub's WordPiece preprocessor that masks tokens, for this package's encoder.

    Strings in; inputs, `mask_positions`, and the masked tokens as labels out. See
    `keras_hub.models.BertMaskedLMPreprocessor`.
    """

    backbone_cls = TransformerEncoder


@keras.saving.register_keras_serializable(package="keras_addnorm")
class MaskedLM(EncoderTask, hub.MaskedLM):
    """Encoder, and the logits of the tokens at masked positions.

        h      = layer_norm(activation(gather(encoder(...), mask_positions) W + b))
        logits = h E^T + c            (E is the encoder's own table of token embeddings)

    A KerasHub `MaskedLM` task: with a preprocessor `fit` takes strings.

    Args:
        backbone: the encoder, a `TransformerEncoder`.
        activation: name of the head's activation, as in `FeedForward`.
        preprocessor: a `MaskedLMPreprocessor`, or None for a model of token ids.
        head_dtype: dtype policy of the head. Default: the backbone's.

    Inputs (a dict):
        Those of the backbone, and
        mask_positions: int32 `(batch, masks)`, the positions to predict.

    Output shape:
        `(batch, masks, vocabulary_size)`.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    task = MaskedLM(TransformerEncoder(vocabulary_size=30522, embedding_norm=True))
    logits = task({"token_ids": ids, "padding_mask": mask, "mask_positions": positions})
    ```

    Source: Devlin et al., arXiv:1810.04805, section 3.1; tied embeddings: Press and Wolf,
    arXiv:1608.05859.
    """

    backbone_cls = TransformerEncoder
    preprocessor_cls = MaskedLMPreprocessor

    def __init__(self, backbone, activation="gelu", preprocessor=None, head_dtype=None, **kwargs):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.masked_lm_head = hub_layers.MaskedLMHead(
            token_embedding=backbone.token_embedding,
            intermediate_activation=get_activation("MaskedLM", activation),
            layer_norm_epsilon=backbone.epsilon,
            kernel_initializer=copy_initializer(backbone.kernel_initializer),
            dtype=backbone.dtype_policy if head_dtype is None else head_dtype,
            name="masked_lm_head",
        )
        positions = keras.Input((None,), dtype="int32", name="mask_positions")
        inputs = {**backbone.input, "mask_positions": positions}
        outputs = self.masked_lm_head(backbone(backbone.input)["sequence_output"], positions)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.activation = activation
        self.head_dtype = head_dtype

    def get_config(self):
        head = layer_config(self.masked_lm_head, {"dtype": self.head_dtype})  # as quantized
        config = {"activation": self.activation, "head_dtype": head["dtype"]}
        return {**super().get_config(), **config}
