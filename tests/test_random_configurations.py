"""Layers in random configurations against the float64 reference: 70 here, 700 with `make slow`.

One configuration of one layer is one draw. The worst absolute error of each layer, and the
configuration that gave it, are printed at the end of the run.
"""

import functools

import hypothesis
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_addnorm import layers
from keras_addnorm.layers.activations import ACTIVATIONS
from tests import reference
from tests.common import randomize, to_numpy, weights_of
from tests.reference import below

LIMIT = 1e-4  # worst absolute error of a float32 layer against float64
NORMS = [
    *("layer_norm", "layer_norm_no_bias", "rms_norm", "batch_norm", "power_norm"),
    *("dynamic_tanh", "affine", "none"),
]
CI, SLOW = 10, 100  # configurations of each of the seven layers

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)
flags = st.booleans()


def configurations(strategy, *examples):
    """Runs a test on fixed rows and on drawn ones: a few by default, many if marked slow."""

    def decorate(test):
        def runs(number):
            settings = hypothesis.settings(
                max_examples=number,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
            )

            def run(record_error, c):
                record_error(test.__name__, dict(c), test(**c))

            run = settings(given(c=strategy)(run))
            for row in reversed(examples):
                run = example(c=row)(run)
            return run

        @pytest.mark.parametrize(
            "number", [CI, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["few", "many"]
        )
        @functools.wraps(test)
        def both(record_error, number):
            runs(number)(record_error)

        del both.__wrapped__  # pytest would ask for the arguments of the layer
        return both

    return decorate


def inputs(seed, *shapes):
    rng = np.random.default_rng(seed)
    return rng, *(rng.normal(size=shape).astype("float32") for shape in shapes)


def error(got, want):
    got, want = to_numpy(got).astype("float64"), np.asarray(want)
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    worst = np.abs(got - want).max(initial=0.0)
    assert worst <= LIMIT, worst
    return float(worst)


def make_mask(rng, kind, shape):
    """A 0/1 array: any, with rows that are all 0, or None."""
    if kind == "none":
        return None
    mask = rng.integers(0, 2, size=shape)
    if kind == "empty":
        mask[0] = 0
    return mask


mask_kinds = st.sampled_from(["none", "any", "empty"])


@st.composite
def attention(draw):
    groups, kv = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads = groups * kv
    key_dim = draw(st.one_of(st.none(), st.integers(1, 8)))
    features = heads * draw(st.integers(1, 4)) if key_dim is None else draw(st.integers(1, 9))
    size = features // heads if key_dim is None else key_dim
    rotary = None
    if size >= 2 and draw(flags):
        rotary = {
            "rotary_dim": 2 * draw(st.integers(1, size // 2)),
            "max_wavelength": draw(st.sampled_from([100.0, 10000.0, 160000.0])),
            "scaling_factor": draw(st.sampled_from([1.0, 2.5])),
            "interleaved": draw(flags),
        }
    names = ["query", "key", "value", "output", "gate"]
    options = {
        "num_heads": heads,
        "key_dim": key_dim,
        "value_dim": draw(st.one_of(st.none(), sizes)),
        "output_dim": draw(st.one_of(st.none(), sizes)),
        "num_key_value_heads": draw(st.sampled_from([None, kv])),
        "use_bias": draw(st.one_of(flags, st.lists(st.sampled_from(names), unique=True))),
        "sliding_window": draw(st.one_of(st.none(), sizes)),
        "rotary": rotary,
        "qk_norm": draw(st.sampled_from([None, "layer_norm", "rms_norm"])),
        "use_gate": draw(flags),
        "guard_padding": draw(flags),
    }
    return {
        "options": options,
        "features": features,
        "batch": draw(st.integers(1, 3)),
        "queries": draw(st.sampled_from([heads, 1, 2, 5, 7])),
        "cross": draw(
            st.one_of(st.none(), st.tuples(st.sampled_from([heads, 1, 4]), sizes, sizes))
        ),
        "masks": {
            name: draw(mask_kinds)
            for name in ("query_mask", "key_mask", "value_mask", "attention_mask")
        },
        "rank": draw(st.sampled_from([3, 4])),
        "causal": draw(flags),
        "bias": draw(st.sampled_from([None, (1, 1), (1, heads), (0, heads)])),
        "scores": draw(flags),
        "seed": draw(seeds),
    }


NO_MASKS = dict.fromkeys(("query_mask", "key_mask", "value_mask", "attention_mask"), "none")


def plain_attention(num_heads, features, queries, masks=NO_MASKS, batch=2, **options):
    return {
        "options": {"num_heads": num_heads, **options},
        "features": features,
        "batch": batch,
        "queries": queries,
        "cross": None,
        "masks": {**NO_MASKS, **masks},
        "rank": 4,
        "causal": False,
        "bias": None,
        "scores": True,
        "seed": 1,
    }


@configurations(
    attention(),
    plain_attention(4, 8, 5, key_dim=1),
    plain_attention(4, 8, 4),  # as many positions as heads: axes must not be mixed up
    plain_attention(1, 1, 3),  # one feature
    plain_attention(2, 6, 5, {"key_mask": "empty"}),
    plain_attention(2, 6, 5, {"query_mask": "empty", "attention_mask": "empty"}),
    plain_attention(2, 6, 5, {"query_mask": "any"}, batch=1),  # its mask has one axis above 1
    plain_attention(5, 5, 5, {"query_mask": "any"}, batch=1),
    plain_attention(4, 8, 4, {"attention_mask": "any"}, num_key_value_heads=2, sliding_window=1),
)
def test_multi_head_attention(
    options, features, batch, queries, cross, masks, rank, causal, bias, scores, seed
):
    keys = queries if cross is None else cross[0]
    shapes = [(batch, queries, features)]
    if cross is not None:
        shapes += [(batch, keys, width) for width in cross[1:]]
    rng, *arrays = inputs(seed, *shapes)
    layer = layers.MultiHeadAttention(**options)
    layer.build(*(x.shape for x in arrays))
    randomize(layer, rng)
    heads = options["num_heads"]
    square = (batch, heads, queries, keys) if rank == 4 else (batch, queries, keys)
    lengths = {"query_mask": (batch, queries), "attention_mask": square}
    kwargs = {name: make_mask(rng, masks[name], lengths.get(name, (batch, keys))) for name in masks}
    if bias is not None:
        kwargs["position_bias"] = rng.normal(size=(bias[0] or batch, bias[1], queries, keys))
    known = ("num_heads", "num_key_value_heads", "sliding_window", "rotary", "qk_norm")
    want = reference.multi_head_attention(
        weights_of(layer),
        *arrays,
        **{name: options.get(name) for name in known},
        **{**kwargs, "position_bias": kwargs.get("position_bias", 0.0)},
        causal=causal,
    )
    got = layer(*arrays, **kwargs, use_causal_mask=causal, return_attention_scores=scores)
    if scores:
        return max(map(error, got, want))
    return error(got, want[0])


@st.composite
def joint(draw):
    branch_scale = draw(st.one_of(st.none(), st.floats(-2, 2, width=32)))
    return {
        "options": {
            "norm": draw(st.sampled_from(NORMS)),
            "epsilon": draw(st.sampled_from([1e-5, 1e-3, 1e-1])),
            "residual_scale": draw(st.floats(-3, 3, width=32)),
            "branch_scale": branch_scale,
            "branch_scale_axis": None
            if branch_scale is None
            else draw(st.sampled_from([None, -1])),
            "branch_norm": draw(st.sampled_from(NORMS)),
            "return_sum": draw(flags),
        },
        "shape": draw(st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 9))),
        "mask": draw(mask_kinds),
        "training": draw(flags),
        "seed": draw(seeds),
    }


def plain_joint(shape, mask="none", training=False, **options):
    defaults = {"norm": "layer_norm", "epsilon": 1e-5, "branch_norm": "none", "return_sum": True}
    options = {**defaults, **options}
    return {"options": options, "shape": shape, "mask": mask, "training": training, "seed": 1}


@configurations(
    joint(),
    plain_joint((2, 3, 1)),  # one feature: the normalized value is beta
    plain_joint((2, 3, 1), norm="rms_norm"),
    plain_joint((3, 4, 5), "empty", True, norm="batch_norm", branch_norm="power_norm"),
    plain_joint((3, 4, 5), "empty", True, norm="power_norm", branch_norm="batch_norm"),
)
def test_add_norm(options, shape, mask, training, seed):
    rng, x, y = inputs(seed, shape, shape)
    layer = layers.AddNorm(**options)
    layer(x, y)
    randomize(layer, rng)
    keep = make_mask(rng, mask, shape[:2])
    if keep is not None and not keep.any():
        keep[-1] = 1  # without any position there are no moments; see the tests of the norms
    weights = weights_of(layer)
    normed, total = reference.add_norm(
        weights,
        x.astype("float64"),
        y.astype("float64"),
        options["norm"],
        options["epsilon"],
        options.get("residual_scale", 1.0),
        options["branch_norm"],
        keep,
        training,
    )
    got = layer(x, y, mask=keep, training=training)
    if options["return_sum"]:
        return max(error(got[0], normed), error(got[1], total))
    return error(got, normed)


@st.composite
def feed_forward(draw):
    gated = draw(flags)
    return {
        "options": {
            "intermediate_dim": draw(st.integers(1, 12)),
            "activation": draw(st.sampled_from(list(ACTIVATIONS))),
            "output_dim": draw(st.one_of(st.none(), sizes)),
            "use_bias": draw(flags),
            "gated": gated,
            "fused": gated and draw(flags),
        },
        "shape": draw(st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)),
        "seed": draw(seeds),
    }


@configurations(
    feed_forward(),
    {"options": {"intermediate_dim": 1}, "shape": (2, 3, 1), "seed": 1},
    {
        "options": {"intermediate_dim": 1, "gated": True, "fused": True},
        "shape": (2, 3, 1),
        "seed": 1,
    },
)
def test_feed_forward(options, shape, seed):
    rng, x = inputs(seed, shape)
    layer = layers.FeedForward(**options)
    layer.build(shape)
    randomize(layer, rng)
    activation, fused = options.get("activation", "relu"), options.get("fused", False)
    want = reference.feed_forward(weights_of(layer), x.astype("float64"), activation, fused)
    return error(layer(x), want)


@st.composite
def embedding(draw):
    position = draw(st.sampled_from(["learned", "sinusoidal", "none"]))
    length = draw(st.integers(1, 7))
    width, mask_zero = draw(st.one_of(st.none(), sizes)), draw(flags)
    window = width and draw(st.sampled_from([None, 1, 3, 5]))
    return {
        "options": {
            "vocabulary_size": draw(st.integers(1, 9)),
            "max_sequence_length": length + draw(st.integers(0, 3)),
            "embedding_dim": draw(st.integers(1, 8)),
            "position": position,
            "num_segments": draw(st.integers(0, 3)),
            "embedding_norm": draw(st.sampled_from([False, *NORMS])),
            "epsilon": draw(st.sampled_from([1e-5, 1e-2])),
            "mask_zero": mask_zero,
            "position_offset": draw(st.integers(0, 2)) if position == "learned" else 0,
            "token_embedding_dim": width,
            "embedding_scale": draw(st.sampled_from([None, "sqrt", 0.5, -2.0])),
            "projection_window": window,
            "project_first": bool(width) and window is None and draw(flags),
            "mask_token_id": None if mask_zero else draw(st.sampled_from([None, 0])),
            "mask_token_rate": draw(st.sampled_from([0.12, 0.0])),
            "zero_padding": draw(flags),
        },
        "batch": draw(st.integers(1, 3)),
        "length": length,
        "seed": draw(seeds),
    }


@configurations(
    embedding(),
    {
        "options": {
            "vocabulary_size": 1,
            "max_sequence_length": 1,
            "embedding_dim": 1,
            "embedding_norm": "layer_norm",
        },
        "batch": 1,
        "length": 1,
        "seed": 1,
    },
)
def test_token_and_position_embedding(options, batch, length, seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, options["vocabulary_size"], size=(batch, length))
    segments = options.get("num_segments", 0)
    segments = rng.integers(0, segments, size=(batch, length)) if segments > 1 else None
    layer = layers.TokenAndPositionEmbedding(**options)
    layer(ids, segments)
    randomize(layer, rng)
    scale = options.get("embedding_scale") or 1.0
    want = reference.token_and_position_embedding(
        weights_of(layer),
        ids,
        segments,
        ids != 0 if options.get("mask_zero") else None,
        position=options.get("position", "learned"),
        kind=options["embedding_norm"] or None,
        epsilon=options.get("epsilon", 1e-5),
        offset=options.get("position_offset", 0),
        scale=options["embedding_dim"] ** 0.5 if scale == "sqrt" else scale,
        window=options.get("projection_window"),
        mask_token=options.get("mask_token_id"),
        rate=options.get("mask_token_rate", 0.12),
        zero_padding=options.get("zero_padding", False),
        first=options.get("project_first", False),
    )
    return error(layer(ids, segments), want)


@st.composite
def patches(draw):
    patch = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return {
        "options": {
            "patch_size": draw(st.sampled_from([patch[0], list(patch)])),
            "embedding_dim": draw(st.integers(1, 8)),
            "num_class_tokens": draw(st.integers(0, 2)),
            "num_register_tokens": draw(st.integers(0, 3)),
            "position": draw(st.sampled_from(["learned", "none"])),
            "use_bias": draw(flags),
        },
        "grid": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "channels": draw(st.integers(1, 4)),
        "batch": draw(st.integers(1, 3)),
        "seed": draw(seeds),
    }


@configurations(
    patches(),
    {
        "options": {"patch_size": 1, "embedding_dim": 1, "num_class_tokens": 0},
        "grid": (1, 1),
        "channels": 1,
        "batch": 1,
        "seed": 1,
    },
)
def test_patch_embedding(options, grid, channels, batch, seed):
    size = options["patch_size"]
    size = (size, size) if isinstance(size, int) else size
    shape = (batch, grid[0] * size[0], grid[1] * size[1], channels)
    rng, images = inputs(seed, shape)
    layer = layers.PatchEmbedding(**options)
    layer.build(shape)
    randomize(layer, rng)
    want = reference.patch_embedding(weights_of(layer), images.astype("float64"), size)
    return error(layer(images), want)


@st.composite
def block(draw):
    heads = draw(st.integers(1, 4))
    return {
        "options": {
            "intermediate_dim": draw(st.integers(1, 12)),
            "num_heads": heads,
            "activation": draw(st.sampled_from(list(ACTIVATIONS))),
            "norm": draw(st.sampled_from(NORMS)),
            "epsilon": draw(st.sampled_from([1e-5, 1e-3])),
        },
        "features": heads * draw(st.integers(1, 4)),
        "batch": draw(st.integers(1, 3)),
        "length": draw(st.sampled_from([heads, 1, 3, 6])),
        "masks": (draw(mask_kinds), draw(mask_kinds)),
        "seed": draw(seeds),
    }


@configurations(
    block(),
    {
        "options": {"intermediate_dim": 8, "num_heads": 4, "activation": "gelu"},
        "features": 4,  # key_dim 1, and as many positions as heads
        "batch": 2,
        "length": 4,
        "masks": ("empty", "any"),
        "seed": 1,
    },
)
def test_transformer_encoder_layer(options, features, batch, length, masks, seed):
    rng, x = inputs(seed, (batch, length, features))
    layer = layers.TransformerEncoderLayer(**options)
    layer.build(x.shape)
    randomize(layer, rng)
    padding_mask = make_mask(rng, masks[0], (batch, length))
    attention_mask = make_mask(rng, masks[1], (batch, length, length))
    weights, stream = weights_of(layer), x.astype("float64")
    kind, epsilon = options.get("norm", "layer_norm"), options.get("epsilon", 1e-5)
    y, _ = reference.multi_head_attention(
        below(weights, "attention"),
        stream,
        num_heads=options["num_heads"],
        key_mask=padding_mask,
        attention_mask=attention_mask,
    )
    stream, _ = reference.add_norm(below(weights, "attention_add_norm"), stream, y, kind, epsilon)
    y = reference.feed_forward(
        below(weights, "feed_forward"), stream, options.get("activation", "relu")
    )
    want, _ = reference.add_norm(below(weights, "feed_forward_add_norm"), stream, y, kind, epsilon)
    return error(layer(x, padding_mask=padding_mask, attention_mask=attention_mask), want)


@st.composite
def pooling(draw):
    return {
        "options": {
            "pooling": draw(st.sampled_from(["mean", "max", "cls"])),
            "normalize": draw(flags),
            "guard_padding": draw(flags),
        },
        "shape": draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))),
        "mask": draw(st.sampled_from(["any", "empty"])),
        "seed": draw(seeds),
    }


@configurations(
    pooling(),
    {"options": {"pooling": "max"}, "shape": (1, 5, 5), "mask": "any", "seed": 1},
    {"options": {"pooling": "max"}, "shape": (1, 5, 1), "mask": "empty", "seed": 1},
)
def test_sequence_pooling(options, shape, mask, seed):
    rng, x = inputs(seed, shape)
    padding_mask = make_mask(rng, mask, shape[:2])
    kind, normalize = options["pooling"], options.get("normalize", False)
    want = reference.pooling(x.astype("float64"), padding_mask, kind, normalize)
    return error(layers.SequencePooling(**options)(x, padding_mask=padding_mask), want)
