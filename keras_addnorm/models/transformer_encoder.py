"""The transformer encoder, assembled from this package's layers with the functional API."""

import keras
from keras_hub.models import Backbone

from keras_addnorm.layers import (
    AddNorm,
    FeedForward,
    MultiHeadAttention,
    SequencePooling,
    TokenAndPositionEmbedding,
    checks,
)
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.feed_forward import get_activation
from keras_addnorm.layers.norms import NORMS, apply_norm, make_norm, uses_mask
from keras_addnorm.layers.quantization import layer_config
from keras_addnorm.models.residual import RESIDUALS

# An encoder deeper than this is a mistake or an attack, and would hang the functional API.
MAX_LAYERS = 1000
MAX_SIZE = 2**24


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TransformerEncoder(Backbone):
    """A transformer encoder: embeddings, then N times attention, Add&Norm, FFN, Add&Norm.

    A functional model, and a KerasHub `Backbone`: `from_preset`, `save_to_preset`, LoRA,
    `quantize` and KerasHub's tasks work. The defaults are the base encoder of the paper:
    6 layers, 18,914,304 weights without embeddings.

    Args:
        vocabulary_size: int, number of tokens.
        num_layers: int, number of blocks N.
        num_heads: int, attention heads of a block; must divide `hidden_dim`.
        hidden_dim: int, features of the residual stream.
        intermediate_dim: int, features between the two feed-forward layers.
        dropout: float in [0, 1), dropout rate of embeddings and sublayer outputs.
        attention_dropout: float in [0, 1), dropout rate of the scores. Default: `dropout`.
        activation: name of the feed-forward activation: one of Keras's (`"gelu"` is the exact
            one) or `"gelu_tanh"`.
        residual: `"post_norm"` or `"pre_norm"`, a key of `RESIDUALS`.
        norm: name of the norm of every joint, as in `AddNorm`.
        epsilon: float above 0, the norms' epsilon.
        position: `"sinusoidal"` or `"learned"`.
        max_sequence_length: int, the longest sequence.
        num_segments: int, number of segments; with 0 there is no `segment_ids` input.
        embedding_norm: bool, whether the embeddings are normalized (BERT).
        pooler: `None`, or the activation of a dense layer over the first token (`"tanh"`: BERT).
        kernel_initializer: initializer of all kernels and trained embeddings.
        dtype: string or dtype policy of all layers.

    Inputs (a dict):
        token_ids: int32 `(batch, length)`.
        padding_mask: int32 `(batch, length)`; 1 keeps a position, 0 hides it from all others.
        segment_ids: int32 `(batch, length)`, where `num_segments` is above 0.

    Outputs (a dict):
        sequence_output: `(batch, length, hidden_dim)`, the normalized stream after the last block.
        pooled_output: `(batch, hidden_dim)`, where there is a pooler.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    encoder = TransformerEncoder(vocabulary_size=30522, num_layers=2, hidden_dim=128, num_heads=2)
    y = encoder({"token_ids": ids, "padding_mask": mask})["sequence_output"]
    ```

    Source: Vaswani et al., arXiv:1706.03762; Devlin et al., arXiv:1810.04805.
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
        norm="layer_norm",
        epsilon=1e-5,
        position="sinusoidal",
        max_sequence_length=512,
        num_segments=0,
        embedding_norm=False,
        pooler=None,
        kernel_initializer="glorot_uniform",
        dtype=None,
        **kwargs,
    ):
        owner = "TransformerEncoder"
        checks.known_arguments(TransformerEncoder, kwargs)

        def size(name, value, limit=MAX_SIZE):
            return checks.positive_int(owner, name, value, limit=limit)

        vocabulary_size = size("vocabulary_size", vocabulary_size)
        num_layers = size("num_layers", num_layers, MAX_LAYERS)
        num_heads = size("num_heads", num_heads)
        hidden_dim = size("hidden_dim", hidden_dim)
        intermediate_dim = size("intermediate_dim", intermediate_dim)
        max_sequence_length = size("max_sequence_length", max_sequence_length)
        num_segments = checks.non_negative_int(owner, "num_segments", num_segments)
        dropout = checks.rate(owner, "dropout", dropout)
        if attention_dropout is None:
            attention_dropout = dropout
        attention_dropout = checks.rate(owner, "attention_dropout", attention_dropout)
        epsilon = checks.epsilon(owner, epsilon)
        checks.divides(owner, "hidden_dim", hidden_dim, "num_heads", num_heads)
        checks.choice(owner, "residual", residual, RESIDUALS)
        checks.choice(owner, "norm", norm, NORMS)
        for name, value in (("activation", activation), ("pooler", pooler)):
            if not isinstance(value, str) and not (name == "pooler" and value is None):
                raise ValueError(
                    f"{owner}: `{name}` must be the name of an activation, so that the config is "
                    f"plain data. Received: {name}={value!r}. Pass for instance 'gelu'."
                )
        scheme = RESIDUALS[residual]

        # === Layers ===
        embeddings = TokenAndPositionEmbedding(
            vocabulary_size,
            max_sequence_length,
            hidden_dim,
            position=position,
            num_segments=num_segments,
            embedding_norm=norm if embedding_norm else False,
            epsilon=epsilon,
            embeddings_initializer=kernel_initializer,
            dtype=dtype,
            name="embeddings",
        )
        embeddings_dropout = keras.layers.Dropout(dropout, dtype=dtype, name="embeddings_dropout")

        def attention(name):
            return MultiHeadAttention(
                num_heads,
                dropout=attention_dropout,
                kernel_initializer=kernel_initializer,
                dtype=dtype,
                name=name,
            )

        def feed_forward(name):
            return FeedForward(
                intermediate_dim,
                activation,
                kernel_initializer=kernel_initializer,
                dtype=dtype,
                name=name,
            )

        def add_norm(name):
            return AddNorm(
                norm,
                epsilon,
                dropout=dropout,
                return_sum=scheme.carries == "total",
                dtype=dtype,
                name=name,
            )

        # === Functional model ===
        def token_input(name):
            return keras.Input(shape=(None,), dtype="int32", name=name)

        inputs = {name: token_input(name) for name in ("token_ids", "padding_mask")}
        if num_segments:
            inputs["segment_ids"] = token_input("segment_ids")
        mask = inputs["padding_mask"]

        def join(name, x, y):
            """Returns (what the next sublayer sees, what the next joint adds to)."""
            layer = add_norm(name)
            output = layer(x, y, mask=mask if layer.uses_mask else None)
            return output if scheme.carries == "total" else (output, output)

        norm_mask = embeddings.norm_layer is not None and uses_mask(embeddings.norm_layer)
        x = embeddings(
            inputs["token_ids"],
            segment_ids=inputs.get("segment_ids"),
            mask=mask if norm_mask else None,
        )
        x = n = embeddings_dropout(x)
        if scheme.carries == "total":
            first_norm = make_norm(owner, norm, epsilon, dtype=dtype, name="first_norm")
            n = apply_norm(owner, first_norm, x, mask)
        for i in range(num_layers):
            y = attention(f"layer_{i}_attention")(n, key_mask=mask)
            n, x = join(f"layer_{i}_attention_add_norm", x, y)
            y = feed_forward(f"layer_{i}_feed_forward")(n)
            n, x = join(f"layer_{i}_feed_forward_add_norm", x, y)
        outputs = {"sequence_output": n}
        if pooler is not None:
            dense = keras.layers.Dense(
                hidden_dim,
                activation=get_activation(owner, pooler, "pooler"),
                kernel_initializer=copy_initializer(keras.initializers.get(kernel_initializer)),
                dtype=dtype,
                name="pooler",
            )
            first = SequencePooling("cls", dtype=dtype, name="first_token")
            outputs["pooled_output"] = dense(first(n, padding_mask=mask))
        super().__init__(inputs=inputs, outputs=outputs, dtype=dtype, **kwargs)

        # === Config ===
        self.token_embedding = embeddings.token_embedding
        self.vocabulary_size = vocabulary_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation = activation
        self.residual = residual
        self.norm = norm
        self.epsilon = epsilon
        self.position = position
        self.max_sequence_length = max_sequence_length
        self.num_segments = num_segments
        self.embedding_norm = bool(embedding_norm)
        self.pooler = pooler
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def enable_lora(self, rank, target_layer_names=None):
        super().enable_lora(rank, target_layer_names)
        for layer in self._flatten_layers():  # Trained biases would not be among the saved weights.
            if getattr(layer, "lora_enabled", False) and layer.bias is not None:
                layer.bias.trainable = False

    def get_config(self):
        # Not from KerasHub's `get_config`, which forgets the dtype policy of the layers that
        # `quantize` leaves alone and takes the names of the others' policies away.
        dtype = keras.dtype_policies.serialize(self.dtype_policy)
        config = {"name": self.name, "trainable": self.trainable, "dtype": dtype}
        return {
            **layer_config(self, config),
            "vocabulary_size": self.vocabulary_size,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation": self.activation,
            "residual": self.residual,
            "norm": self.norm,
            "epsilon": self.epsilon,
            "position": self.position,
            "max_sequence_length": self.max_sequence_length,
            "num_segments": self.num_segments,
            "embedding_norm": self.embedding_norm,
            "pooler": self.pooler,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
