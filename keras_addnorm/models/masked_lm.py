"""Masked language modelling: the pretraining task, with logits tied to the token embeddings."""

import functools

import keras
from keras import ops
from keras_hub import models as hub

from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.precision import full_precision, narrow, saturate, widen
from keras_addnorm.layers.shapes import flatten, reshape
from keras_addnorm.models.masked_lm_preprocessor import MaskedLMPreprocessor
from keras_addnorm.models.task import EncoderTask


@keras.saving.register_keras_serializable(package="keras_addnorm")
class MaskedLM(EncoderTask, hub.MaskedLM):
    """Encoder, and the logits of the tokens at masked positions.

        h      = norm(activation(gather(encoder(...), mask_positions) W + b))
        logits = h E^T + c            (E is the encoder's own table of token embeddings)

    A KerasHub `MaskedLM` task: with a preprocessor `fit` takes strings. h is as wide as the table;
    where `head_options` make it wider (MobileBERT), its further features have a kernel of their
    own, and so have all of them with `tie_weights=False`:

        logits = h[:width] E^T + h[width:] V + c

    Args:
        backbone: the encoder, a `TransformerEncoder`.
        activation: name of the head's activation, as in `FeedForward`.
        preprocessor: a `MaskedLMPreprocessor`, or None for a model of token ids.
        head_dtype: dtype policy of the head. Default: the backbone's.
        tie_weights: bool, whether the table of token embeddings makes the logits.
        head_options: dict of further arguments of `Head`: `hidden_dim` (default: the width of the
            table), `norm` (`"layer_norm"`), `epsilon` (the encoder's), `use_bias`, where
            `"output"` is c, `input_dropout`, `bias_initializer`.

    Inputs (a dict):
        Those of the backbone, and
        mask_positions: int32 `(batch, masks)`, the positions to predict.

    Output shape:
        `(batch, masks, vocabulary_size)`; float32 in mixed precision.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    task = MaskedLM(TransformerEncoder(vocabulary_size=30522, embedding_norm=True))
    logits = task({"token_ids": ids, "padding_mask": mask, "mask_positions": positions})
    ```

    Source: Devlin et al., arXiv:1810.04805, section 3.1; tied embeddings: Press and Wolf,
    arXiv:1608.05859; wider than the table: Sun et al., arXiv:2004.02984.
    """

    preprocessor_cls = MaskedLMPreprocessor

    def __init__(
        self,
        backbone,
        activation="gelu",
        preprocessor=None,
        head_dtype=None,
        tie_weights=True,
        head_options=None,
        **kwargs,
    ):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.tie_weights = bool(tie_weights)
        table = backbone.token_embedding
        self.head = self._make_head(
            None,
            head_options,
            head_dtype,
            told=("activation", "dropout"),
            hidden_dim=table.output_dim,
            activation=activation,
            norm="layer_norm",
            epsilon=backbone.epsilon,
        )
        if self.tie_weights and self.head.hidden_dim < table.output_dim:
            raise ValueError(
                "MaskedLM: `hidden_dim` of the `head_options` must be at least the width of the "
                f"tied table, {table.output_dim}. Received: hidden_dim={self.head.hidden_dim}. "
                "Leave it out, or pass tie_weights=False."
            )
        use_bias = self.head.use_bias
        self.logits = TokenLogits(
            table,
            tied_dim=table.output_dim if self.tie_weights else 0,
            use_bias=use_bias if isinstance(use_bias, bool) else "output" in use_bias,
            kernel_initializer=copy_initializer(backbone.kernel_initializer),
            dtype=self._head_policy,
            name="logits",
        )
        positions = keras.Input((None,), dtype="int32", name="mask_positions")
        states = backbone(backbone.input)["sequence_output"]
        masked = ops.take_along_axis(states, ops.expand_dims(positions, -1), axis=1)
        inputs = {**backbone.input, "mask_positions": positions}
        super().__init__(inputs=inputs, outputs=self.logits(self.head(masked)), **kwargs)
        self.activation = activation

    def get_config(self):
        return {
            **super().get_config(),
            "activation": self.activation,
            "tie_weights": self.tie_weights,
            **self._head_config(),
        }


class TokenLogits(keras.layers.Layer):
    """A score for each token, by the table of token embeddings as far as it reaches.

        logits = h[:tied_dim] E^T + h[tied_dim:] V + c

    Built by `MaskedLM`, which makes it anew from its own config: the table is the encoder's.

    Args:
        token_embedding: a `keras.layers.ReversibleEmbedding`.
        tied_dim: int, the width of its table E, or 0 if it has no part in the logits.
        use_bias: bool, whether there is a c.
        kernel_initializer: initializer of V, the kernel of the sublayer `dense`.

    Call arguments:
        h: float tensor `(batch, masks, features)`, with at least `tied_dim` features.

    Output shape:
        `(batch, masks, vocabulary_size)`.
    """

    def __init__(self, token_embedding, tied_dim, use_bias, kernel_initializer, **kwargs):
        super().__init__(**kwargs)
        self.token_embedding = token_embedding
        self.tied_dim = tied_dim
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.dense = self.bias = None

    def build(self, h_shape):
        tokens, rest = self.token_embedding.input_dim, h_shape[-1] - self.tied_dim
        if rest:
            self.dense = keras.layers.Dense(
                tokens,
                use_bias=False,
                kernel_initializer=self.kernel_initializer,
                dtype=full_precision(self.dtype_policy),
                name="dense",
            )
            self.dense.build((None, rest))
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(tokens,), initializer="zeros", autocast=False
            )
        self.built = True

    def call(self, h):
        rows, parts = flatten(h), []  # [batch * masks, features]
        if self.tied_dim:
            tied = self.token_embedding(rows[..., : self.tied_dim], reverse=True)
            parts.append(widen(saturate(tied)))
        if self.dense is not None:
            parts.append(widen(saturate(self.dense(rows[..., self.tied_dim :]))))
        if self.bias is not None:
            parts.append(widen(ops.convert_to_tensor(self.bias)))
        logits = narrow(functools.reduce(ops.add, parts), self.variable_dtype)
        return reshape(logits, (*h.shape[:-1], logits.shape[-1]), like=h)

    def compute_output_shape(self, h_shape):
        return (*h_shape[:-1], self.token_embedding.input_dim)

    def compute_output_spec(self, h):
        return keras.KerasTensor(self.compute_output_shape(h.shape), dtype=self.variable_dtype)
