"""The chain of blocks that every encoder is: attention, Add&Norm, feed-forward, Add&Norm."""

import dataclasses

import keras

from keras_addnorm.layers import (
    AddNorm,
    ALiBi,
    FeedForward,
    MultiHeadAttention,
    Projection,
    RelativeEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    SequenceConvolution,
    SequencePooling,
    checks,
)
from keras_addnorm.layers.activations import get_activation
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.initializers import ScaledInitializer
from keras_addnorm.layers.norms import NORMS, apply_norm, make_norm
from keras_addnorm.models.block import Block, BlockOptions, Bottleneck, join
from keras_addnorm.models.residual import RESIDUALS

# An encoder deeper than this is a mistake or an attack, and would hang the functional API.
MAX_LAYERS = 1000
MAX_SIZE = 2**24

# The kinds of position that act inside attention, and the layers that know them; the other kinds
# are added to the embeddings.
ATTENTION_POSITIONS = {
    "rotary": RotaryEmbedding,
    "alibi": ALiBi,
    "relative": RelativePositionBias,
    "disentangled": RelativeEmbedding,
}

# What the encoder itself tells its sublayers; all their other arguments can be options.
_COMMON = ("dtype", "name", "kernel_initializer")
_ATTENTION = ("num_heads", "dropout", "value_output_initializer", *_COMMON)
_FEED_FORWARD = ("intermediate_dim", "activation", *_COMMON)
_POSITION = ("num_heads", "max_sequence_length", *_COMMON)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Everything of an encoder behind its embeddings, as a function of symbolic tensors.

    The attributes but `owner` and `dtype` are arguments of `TransformerEncoder`, checked and as
    plain data once this object is made.
    """

    owner: str
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    dropout: float
    attention_dropout: float | None
    activation: str
    residual: str
    norm: str | None
    epsilon: float
    position: str
    pooler: str | None
    kernel_initializer: object
    drop_path: float
    share_layers: bool
    attention_options: dict | list | None
    feed_forward_options: dict | None
    dtype: object
    max_sequence_length: int = 512
    position_options: dict | None = None
    block_options: dict | None = None

    def __post_init__(self):
        owner, values = self.owner, {}
        for name in ("num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length"):
            values[name] = checks.positive_int(owner, name, getattr(self, name), limit=MAX_SIZE)
        values["num_layers"] = checks.positive_int(
            owner, "num_layers", self.num_layers, limit=MAX_LAYERS
        )
        if self.attention_dropout is None:
            values["attention_dropout"] = self.dropout
        for name in ("dropout", "attention_dropout", "drop_path"):
            values[name] = checks.rate(owner, name, values.get(name, getattr(self, name)))
        values["epsilon"] = checks.epsilon(owner, self.epsilon)
        checks.choice(owner, "residual", self.residual, RESIDUALS)
        values["norm"] = RESIDUALS[self.residual].norm if self.norm is None else self.norm
        checks.choice(owner, "norm", values["norm"], NORMS)
        for name in ("activation", "pooler"):
            _check_activation(owner, name, getattr(self, name), optional=name == "pooler")
        values["kernel_initializer"] = keras.initializers.get(self.kernel_initializer)
        values["share_layers"] = bool(self.share_layers)
        for name, value in {**values, **self._checked_options()}.items():
            object.__setattr__(self, name, value)
        self._check_blocks(owner)

    def _check_blocks(self, owner):
        """What arguments that are right by themselves may not say together."""
        self._block_options.check(owner, MAX_SIZE)
        if not self._block_options.first_norm and self._scheme.carries != "total":
            raise ValueError(
                f"{owner}: only schemes that carry the sum have a norm before the first block. "
                f"Received: first_norm=False, residual={self.residual!r}. Leave out `first_norm`, "
                "or pass for instance residual='pre_norm'."
            )
        if self._block_options.convolution is not None and self._scheme.carries != "normed":
            raise ValueError(
                f"{owner}: a convolution is joined to what the first block gives, normalized, so "
                "the scheme must carry it: the norm before would have no effect. Received: "
                f"convolution={self._block_options.convolution!r}, residual={self.residual!r}. "
                "Pass residual='post_norm', or leave out `convolution`."
            )
        if not self._options(0).get("key_dim"):
            narrow = self._block_options.bottleneck_dim
            name, width = ("bottleneck_dim", narrow) if narrow else ("hidden_dim", self.hidden_dim)
            checks.divides(owner, name, width, "num_heads", self.num_heads)
        if self.share_layers and (self.drop_path or isinstance(self.attention_options, list)):
            raise ValueError(
                f"{owner}: `share_layers` makes all blocks one block, which cannot differ by "
                f"depth. Received: share_layers=True, drop_path={self.drop_path}, "
                f"attention_options={self.attention_options}. Pass drop_path=0.0 and one dict."
            )

    def _checked_options(self):
        owner, position = self.owner, ATTENTION_POSITIONS.get(self.position)
        attention, every = self.attention_options, []
        if isinstance(attention, (list, tuple)) and attention:
            every = [
                checks.options(owner, f"attention_options[{i}]", x, MultiHeadAttention, _ATTENTION)
                for i, x in enumerate(attention)
            ]
        else:
            attention = checks.options(
                owner, "attention_options", attention, MultiHeadAttention, _ATTENTION
            )
        return {
            "attention_options": every or attention,
            "feed_forward_options": checks.options(
                owner, "feed_forward_options", self.feed_forward_options, FeedForward, _FEED_FORWARD
            ),
            "position_options": checks.options(
                owner, "position_options", self.position_options, position, _POSITION
            ),
            "block_options": checks.options(
                owner, "block_options", self.block_options, BlockOptions, ()
            ),
        }

    def config(self):
        """The arguments of the encoder that are told here, as plain data."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["owner"], fields["dtype"]
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**fields, "kernel_initializer": initializer}

    def __call__(self, x, mask=None):
        """The outputs of an encoder.

        Args:
            x: symbolic tensor `(batch, length, hidden_dim)`, the embeddings.
            mask: symbolic tensor `(batch, length)`, 1 for unpadded positions, or None.

        Returns:
            Dict of `sequence_output`, and with a pooler `pooled_output`.
        """
        positions = self._positions(x)
        n, block, embeddings = x, None, x
        if self._scheme.carries == "total" and self._block_options.first_norm:
            first_norm = make_norm(
                self.owner, self.norm, self.epsilon, dtype=self.dtype, name="first_norm"
            )
            n = apply_norm(self.owner, first_norm, x, mask)
        for i in range(self.num_layers):
            if block is None or not self.share_layers:
                block = self._block(i)
            n, x = block(n, x, mask, **positions)
            if i == 0 and self._block_options.convolution is not None:
                n, x = self._convolve(embeddings, x, mask)
        outputs = {"sequence_output": n}
        if self.pooler is not None:
            outputs["pooled_output"] = self._pool(n)
        return outputs

    @property
    def _scheme(self):
        return RESIDUALS[self.residual]

    @property
    def _block_options(self):
        return BlockOptions(**self.block_options)

    def _block(self, i):
        count = self._block_options.num_feed_forwards
        return Block(
            self._attention(i),
            [self._feed_forward(i, f"_{j}" if j else "") for j in range(count)],
            self._bottleneck(i),
        )

    def _bottleneck(self, i):
        """The projections into block `i` and out of it, if it is narrow."""
        narrow, kind = self._block_options.bottleneck_dim, self._block_options.attention_bottleneck
        if narrow is None:
            return None

        def projection(name, size, norm):
            return Projection(
                size,
                norm,
                self.epsilon,
                kernel_initializer=self.kernel_initializer,
                dtype=self.dtype,
                name=f"layer_{i}_{name}",
            )

        name = "output_bottleneck"
        joint = self._add_norm(i, f"layer_{i}_{name}", drops=True)
        return Bottleneck(
            projection("input_bottleneck", narrow, self.norm),
            (projection(name, self.hidden_dim, "none"), joint),
            projection("query_key_bottleneck", narrow, self.norm) if kind == "query_key" else None,
            kind == "all",
        )

    def _convolve(self, embeddings, x, mask):
        """Joins what neighbours say to the stream."""
        name = "layer_0_convolution"
        layer = SequenceConvolution(
            dropout=self.dropout,
            kernel_initializer=copy_initializer(self.kernel_initializer),
            guard_padding=False,  # Embeddings are finite at padded positions too.
            dtype=self.dtype,
            name=name,
            **self._block_options.convolution,
        )
        return join(self._add_norm(0, name, drops=False), x, layer(embeddings, mask=mask), mask)

    def _options(self, i):
        """The options of the attention of layer `i`."""
        options = self.attention_options
        return options[i % len(options)] if isinstance(options, list) else options

    def _attention(self, i):
        # The blocks' own outputs are finite at padded positions too: nothing to guard against.
        name, options = f"layer_{i}_attention", {"guard_padding": False, **self._options(i)}
        narrow = self._block_options.bottleneck_dim
        if narrow is not None:
            options = {"key_dim": narrow // self.num_heads, "output_dim": narrow, **options}
        if self.position == "rotary" and options.get("rotary", {}) is not None:
            options["rotary"] = {**self.position_options, **options.get("rotary", {})}
        if options.get("rotary") is not None:
            length = {"max_sequence_length": self.max_sequence_length}
            options["rotary"] = {**length, **options["rotary"]}
        if self.position == "disentangled":
            disentangled = options.get("disentangled") or {}
            options["disentangled"] = {"dropout": self.dropout, **disentangled}
        layer = MultiHeadAttention(
            self.num_heads,
            dropout=self.attention_dropout,
            kernel_initializer=self.kernel_initializer,
            value_output_initializer=self._scaled_initializer(),
            dtype=self.dtype,
            name=name,
            **options,
        )
        return layer, self._add_norm(i, name)

    def _feed_forward(self, i, suffix):
        name = f"layer_{i}_feed_forward{suffix}"
        layer = FeedForward(
            self.intermediate_dim,
            self.activation,
            kernel_initializer=self._scaled_initializer() or self.kernel_initializer,
            dtype=self.dtype,
            name=name,
            **self.feed_forward_options,
        )
        return layer, self._add_norm(i, name)

    def _add_norm(self, i, name, drops=None):
        """The joint of the sublayer `name`.

        With a bottleneck, only the one that adds a block to the stream drops anything.
        """
        scheme = self._scheme
        drops = self._block_options.bottleneck_dim is None if drops is None else drops
        # Stochastic depth: from 0 in the first layer to the whole rate in the last.
        depth = i / (self.num_layers - 1) if self.num_layers > 1 else 1.0
        return AddNorm(
            self.norm,
            self.epsilon,
            residual_scale=scheme.residual_scale(self.num_layers),
            branch_scale=scheme.branch_scale,
            branch_scale_axis=scheme.branch_scale_axis,
            branch_norm=self.norm if scheme.branch_norm else "none",
            dropout=self.dropout if drops else 0.0,
            drop_path=self.drop_path * depth if drops else 0.0,
            return_sum=scheme.carries == "total",
            dtype=self.dtype,
            name=f"{name}_add_norm",
        )

    def _scaled_initializer(self):
        """The initializer of kernels that the scheme starts smaller or larger, if it does."""
        gain = self._scheme.kernel_gain(self.num_layers)
        return None if gain == 1.0 else ScaledInitializer(self.kernel_initializer, gain)

    def _positions(self, x):
        """What every attention is called with: the positions that all layers share, if any."""
        options = {"dtype": self.dtype, **self.position_options}
        if self.position in ("relative", "disentangled"):
            options["max_sequence_length"] = self.max_sequence_length
        if self.position in ("alibi", "relative"):
            cls = ATTENTION_POSITIONS[self.position]
            return {"position_bias": cls(self.num_heads, name="position_bias", **options)(x)}
        if self.position == "disentangled":
            initializer = copy_initializer(self.kernel_initializer)
            options = {"epsilon": self.epsilon, "embeddings_initializer": initializer, **options}
            return RelativeEmbedding(name="relative_embedding", **options)(x)
        return {}

    def _pool(self, n):
        dense = keras.layers.Dense(
            self.hidden_dim,
            activation=get_activation(self.owner, self.pooler, "pooler"),
            kernel_initializer=copy_initializer(self.kernel_initializer),
            dtype=self.dtype,
            name="pooler",
        )
        return dense(SequencePooling("cls", dtype=self.dtype, name="first_token")(n))


def _check_activation(owner, name, value, optional):
    if not isinstance(value, str) and not (optional and value is None):
        raise ValueError(
            f"{owner}: `{name}` must be the name of an activation, so that the config is plain "
            f"data. Received: {name}={value!r}. Pass for instance 'gelu'."
        )
    if value is not None:
        get_activation(owner, value, name)
