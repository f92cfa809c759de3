"""The transformer encoder, assembled from this package's layers with the functional API."""

import keras

from keras_addnorm.layers import TokenAndPositionEmbedding, checks
from keras_addnorm.layers.masking import refuse_additive
from keras_addnorm.layers.position_encoding import POSITIONS
from keras_addnorm.models.blocks import ATTENTION_POSITIONS, MAX_SIZE, Blocks
from keras_addnorm.models.encoder import Encoder

# What the encoder itself tells its embeddings; all their other arguments can be options. So can
# `position`, beside one that acts inside attention.
_EMBEDDINGS = (
    *("vocabulary_size", "max_sequence_length", "embedding_dim", "num_segments"),
    *("embedding_norm", "epsilon", "mask_zero", "embeddings_initializer"),
)


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TransformerEncoder(Encoder):
    """A transformer encoder: embeddings, then N times attention, Add&Norm, FFN, Add&Norm.

    A functional model, and a KerasHub `Backbone`: `from_preset`, `save_to_preset`, LoRA,
    `quantize` and KerasHub's tasks work. The defaults are the base encoder of the paper:
    6 layers, 18,914,304 weights without embeddings.

    Args:
        vocabulary_size: int, number of tokens.
        num_layers: int, number of blocks N.
        num_heads: int, attention heads of a block; must divide `hidden_dim`, unless the
            `attention_options` have a `key_dim`.
        hidden_dim: int, features of the residual stream.
        intermediate_dim: int, features between the two feed-forward layers.
        dropout: float in [0, 1), dropout rate of embeddings (unless `embedding_options` have one)
            and sublayer outputs.
        attention_dropout: float in [0, 1), dropout rate of the scores. Default: `dropout`.
        activation: name of the feed-forward activation, as in `FeedForward`.
        residual: name of the residual scheme, a key of `RESIDUALS`.
        norm: name of the norm of every joint, as in `AddNorm`. Default: the scheme's, which is
            `"none"` for `"re_zero"` and `"layer_norm"` for the others.
        epsilon: float above 0, the norms' epsilon.
        position: `"sinusoidal"`, `"learned"` or `"none"`; or one that acts inside attention:
            `"rotary"`, `"alibi"`, `"relative"`, `"disentangled"`.
        max_sequence_length: int, the longest sequence.
        num_segments: int, number of segments; with 0 or 1 there is no `segment_ids` input.
        embedding_norm: bool, whether the embeddings are normalized (BERT), by `norm`, or by
            layer norm where that is `"none"`.
        pooler: `None`, or the activation of a dense layer over the first position (`"tanh"`:
            BERT), which must not be padding.
        kernel_initializer: initializer of all kernels and trained embeddings.
        drop_path: float in [0, 1), stochastic depth: the rate at which samples skip the branches
            of the last layer while training; from 0 in the first layer it grows linearly.
        share_layers: bool, whether all blocks are one block (ALBERT).
        position_options: dict of further arguments of the layer of a position that acts inside
            attention: `RotaryEmbedding`, `ALiBi`, `RelativePositionBias` or, for
            `"disentangled"`, `RelativeEmbedding`.
        attention_options: dict of further arguments of `MultiHeadAttention`; or a list of such
            dicts for layers 0, 1, ..., begun again when it ends.
        feed_forward_options: dict of further arguments of `FeedForward`.
        embedding_options: dict of further arguments of `TokenAndPositionEmbedding`; with a
            position that acts inside attention also its `position`: MPNet has `"learned"` beside
            `"relative"`.
        block_options: dict of what blocks have besides one attention and one feed-forward
            network: `num_feed_forwards`, `bottleneck_dim` (MobileBERT), `first_norm` (ModernBERT),
            `convolution` (DeBERTa-v2); see `BlockOptions`.
        dtype: string or dtype policy of all layers.

    Inputs (a dict):
        token_ids: int32 `(batch, length)`.
        padding_mask: int32 `(batch, length)`; 1 keeps a position, 0 hides it from all others.
        segment_ids: int32 `(batch, length)`, where `num_segments` is above 1.

    Outputs (a dict):
        sequence_output: `(batch, length, hidden_dim)`, the normalized stream after the last block.
        pooled_output: `(batch, hidden_dim)`, where there is a pooler.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    encoder = TransformerEncoder(vocabulary_size=30522, num_layers=2, hidden_dim=128, num_heads=2)
    y = encoder({"token_ids": ids, "padding_mask": mask})["sequence_output"]

    local = {"sliding_window": 65, "rotary": {"max_wavelength": 10000.0}}
    modern = TransformerEncoder(  # ModernBERT's pattern: every third layer attends to all
        vocabulary_size=50368,
        residual="pre_norm",
        norm="layer_norm_no_bias",
        activation="gelu",
        embedding_norm=True,
        position="rotary",
        position_options={"max_wavelength": 160000.0},
        attention_options=[{}, local, local],
        feed_forward_options={"gated": True, "use_bias": False},
        block_options={"first_norm": False},
    )
    mobile = TransformerEncoder(  # MobileBERT's blocks: 128 features between bottlenecks
        vocabulary_size=30522,
        num_layers=24,
        num_heads=4,
        intermediate_dim=512,
        norm="affine",
        embedding_options={"token_embedding_dim": 128, "projection_window": 3},
        block_options={"bottleneck_dim": 128, "num_feed_forwards": 4},
    )
    ```

    Source: Vaswani et al., arXiv:1706.03762; Devlin et al., arXiv:1810.04805; bottlenecks: Sun et
    al., arXiv:2004.02984.
    """

    def __init__(
        self,
        vocabulary_size,
        num_layers=6,
        num_heads=8,
        hidden_dim=512,
        intermediate_dim=2048,
        dropout=0.1,
        attention_dropout=None,
        activation="relu",
        residual="post_norm",
        norm=None,
        epsilon=1e-5,
        position="sinusoidal",
        max_sequence_length=512,
        num_segments=0,
        embedding_norm=False,
        pooler=None,
        kernel_initializer="glorot_uniform",
        drop_path=0.0,
        share_layers=False,
        position_options=None,
        attention_options=None,
        feed_forward_options=None,
        embedding_options=None,
        block_options=None,
        dtype=None,
        **kwargs,
    ):
        owner = "TransformerEncoder"
        checks.known_arguments(TransformerEncoder, kwargs)
        vocabulary_size = checks.positive_int(
            owner, "vocabulary_size", vocabulary_size, limit=MAX_SIZE
        )
        num_segments = checks.non_negative_int(owner, "num_segments", num_segments)
        checks.choice(owner, "position", position, (*POSITIONS, "none", *ATTENTION_POSITIONS))
        blocks = Blocks(
            owner=owner,
            num_layers=num_layers,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            residual=residual,
            norm=norm,
            epsilon=epsilon,
            position=position,
            max_sequence_length=max_sequence_length,
            pooler=pooler,
            kernel_initializer=kernel_initializer,
            drop_path=drop_path,
            share_layers=share_layers,
            position_options=position_options,
            attention_options=attention_options,
            feed_forward_options=feed_forward_options,
            block_options=block_options,
            dtype=dtype,
        )
        inside = position in ATTENTION_POSITIONS
        told = _EMBEDDINGS if inside else (*_EMBEDDINGS, "position")
        embedding_options = checks.options(
            owner, "embedding_options", embedding_options, TokenAndPositionEmbedding, told
        )
        embedding_kind = "layer_norm" if blocks.norm == "none" else blocks.norm
        embeddings = TokenAndPositionEmbedding(
            vocabulary_size,
            blocks.max_sequence_length,
            blocks.hidden_dim,
            num_segments=num_segments,
            embedding_norm=embedding_kind if embedding_norm else False,
            epsilon=blocks.epsilon,
            embeddings_initializer=blocks.kernel_initializer,
            dtype=dtype,
            name="embeddings",
            **{
                "position": "none" if inside else position,
                "dropout": blocks.dropout,
                **embedding_options,
            },
        )

        # === Functional model ===
        def token_input(name):
            return keras.Input(shape=(None,), dtype="int32", name=name)

        inputs = {name: token_input(name) for name in ("token_ids", "padding_mask")}
        if num_segments > 1:
            inputs["segment_ids"] = token_input("segment_ids")
        mask = inputs["padding_mask"]
        x = embeddings(inputs["token_ids"], segment_ids=inputs.get("segment_ids"), mask=mask)
        super().__init__(inputs=inputs, outputs=blocks(x, mask), dtype=dtype, **kwargs)

        # === Config ===
        self.token_embedding = embeddings.token_embedding
        self._set_blocks(blocks, blocks.config())
        self.vocabulary_size = vocabulary_size
        self.num_segments = num_segments
        self.embedding_norm = bool(embedding_norm)
        self.embedding_options = embedding_options

    def call(self, inputs, training=None, mask=None, **kwargs):
        # Before Keras casts it to int32, where fractions would become 0.
        if isinstance(inputs, dict) and "padding_mask" in inputs:
            refuse_additive("TransformerEncoder", "padding_mask", inputs["padding_mask"])
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "num_segments": self.num_segments,
            "embedding_norm": self.embedding_norm,
            "embedding_options": self.embedding_options,
        }
