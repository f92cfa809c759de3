"""One block of an encoder: how its sublayers, joints and bottlenecks follow each other."""

import dataclasses

from keras_addnorm.layers import SequenceConvolution, checks

ATTENTION_BOTTLENECKS = ("query_key", "all", "none")
MAX_FEED_FORWARDS = 100

# What the encoder itself tells the convolution.
_CONVOLUTION = ("dropout", "kernel_initializer", "guard_padding")


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """What a block has besides one attention and one feed-forward network.

    Attributes:
        first_norm: bool, whether a scheme that carries the sum normalizes what the first block
            sees. ModernBERT does not, as its embeddings are normalized.
        num_feed_forwards: int, feed-forward networks in a row, each with a joint (MobileBERT: 4).
        bottleneck_dim: int, the width of everything within a block, between a normalized
            `Projection` of the stream and one back, which a joint adds to the stream. Dropout of
            branches and drop path then act at that joint only. Default: no bottleneck.
        attention_bottleneck: what the attention between bottlenecks sees. `"query_key"`: queries
            and keys a projection of their own, values the stream (MobileBERT); `"all"`: all three
            the block's projection; `"none"`: all three the stream.
        convolution: dict of arguments of `SequenceConvolution`, of the embeddings, which a joint
            adds to what the first block gives (DeBERTa-v2). Default: no convolution.
    """

    first_norm: bool = True
    num_feed_forwards: int = 1
    bottleneck_dim: int | None = None
    attention_bottleneck: str = "query_key"
    convolution: dict | None = None

    def check(self, owner, limit):
        """Raises ValueError where the encoder `owner` cannot have these options."""
        checks.boolean(owner, "first_norm", self.first_norm)
        checks.positive_int(
            owner, "num_feed_forwards", self.num_feed_forwards, limit=MAX_FEED_FORWARDS
        )
        if self.bottleneck_dim is not None:
            checks.positive_int(owner, "bottleneck_dim", self.bottleneck_dim, limit=limit)
        checks.choice(
            owner, "attention_bottleneck", self.attention_bottleneck, ATTENTION_BOTTLENECKS
        )
        checks.options(owner, "convolution", self.convolution, SequenceConvolution, _CONVOLUTION)


@dataclasses.dataclass(frozen=True)
class Block:
    """The layers of one block, as a function of the stream.

    Attributes:
        attention: pair of a `MultiHeadAttention` and its joint, an `AddNorm`.
        feed_forwards: list of pairs of a `FeedForward` and its joint.
        bottleneck: a `Bottleneck`, or None.
    """

    attention: tuple
    feed_forwards: list
    bottleneck: object = None

    def __call__(self, n, x, mask, **kwargs):
        """Returns what the next sublayer sees, and what the next joint adds to.

        Args:
            n, x: symbolic tensors `(batch, length, hidden_dim)`, the same two of this block.
            mask: symbolic tensor `(batch, length)`, 1 for unpadded positions, or None.
            **kwargs: further arguments of the call of attention.
        """
        if self.bottleneck is None:
            return self._sublayers((n,), n, x, mask, kwargs)
        narrow, attended = self.bottleneck.enter(n, mask)
        narrow, _ = self._sublayers(attended, narrow, narrow, mask, kwargs)
        return self.bottleneck.leave(narrow, x, mask)

    def _sublayers(self, attended, n, x, mask, kwargs):
        attention, joint = self.attention
        n, x = join(joint, x, attention(*attended, key_mask=mask, **kwargs), mask)
        for feed_forward, joint in self.feed_forwards:
            n, x = join(joint, x, feed_forward(n), mask)
        return n, x


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """The projections into a narrow block and out of it.

    Attributes:
        entry: `Projection` to `bottleneck_dim`.
        exit: pair of a `Projection` to `hidden_dim` and its joint.
        query_key: `Projection` of what queries and keys are made from, or None.
        narrow_attention: bool; without `query_key`, whether attention sees what `entry` gives.
    """

    entry: object
    exit: tuple
    query_key: object = None
    narrow_attention: bool = False

    def enter(self, n, mask):
        """Returns the narrow stream, and the (query, value, key) of attention."""
        narrow = project(self.entry, n, mask)
        if self.query_key is not None:
            query = project(self.query_key, n, mask)
            return narrow, (query, n, query)
        return narrow, (narrow if self.narrow_attention else n,)

    def leave(self, narrow, x, mask):
        projection, joint = self.exit
        return join(joint, x, project(projection, narrow, mask), mask)


def join(joint, x, y, mask):
    """Returns (what the next sublayer sees, what the next joint adds to)."""
    output = joint(x, y, mask=mask if joint.uses_mask else None)
    return output if joint.return_sum else (output, output)


def project(projection, x, mask):
    return projection(x, mask=mask if projection.uses_mask else None)
