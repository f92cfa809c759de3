"""TransformerEncoder: size, values against numpy, padding, lengths, dropout, precision."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_addnorm.models import RESIDUALS, TransformerEncoder
from tests import reference
from tests.common import TINY_ENCODER, encoder_inputs, flat_outputs, randomize, to_numpy, weights_of

# Two blocks of float32 operations of size 1 to 10, each normalized back to size 1.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def built(rng, **kwargs):
    return randomize(TransformerEncoder(**{**TINY_ENCODER, **kwargs}), rng)


def sequence(encoder, inputs):
    return to_numpy(encoder(inputs)["sequence_output"])


def test_the_default_is_the_base_encoder_of_the_paper():
    encoder = TransformerEncoder(vocabulary_size=100)
    assert encoder.count_params() - 100 * 512 == 18_914_304
    config = encoder.get_config()
    assert (config["num_layers"], config["num_heads"], config["intermediate_dim"]) == (6, 8, 2048)
    assert (config["residual"], config["position"]) == ("post_norm", "sinusoidal")
    assert (config["activation"], config["dropout"], config["attention_dropout"]) == (
        "relu",
        0.1,
        0.1,
    )


MODERN = {  # ModernBERT's pattern, with other numbers
    "num_layers": 4,
    "residual": "pre_norm",
    "embedding_norm": True,
    "activation": "gelu",
    "position": "rotary",
    "position_options": {"max_wavelength": 500.0},
    "attention_options": [
        {"use_bias": False},
        {"use_bias": False, "sliding_window": 2, "rotary": {"max_wavelength": 50.0}},
        {"qk_norm": "layer_norm", "sliding_window": 3},
    ],
    "feed_forward_options": {"gated": True, "use_bias": False},
}
MOBILE = {  # MobileBERT's blocks, with other numbers
    "hidden_dim": 12,
    "norm": "affine",
    "block_options": {"num_feed_forwards": 3, "bottleneck_dim": 8},
}
PROTEIN = {  # ESM-2, with other numbers
    "residual": "pre_norm",
    "activation": "gelu",
    "position": "rotary",
    "embedding_options": {"mask_token_id": 3, "zero_padding": True},
}
TRIGRAMS = {
    "position": "learned",
    "num_segments": 2,
    "embedding_norm": True,
    "embedding_options": {"token_embedding_dim": 3, "projection_window": 3},
}
VARIANTS = [
    {},
    {"residual": "pre_norm"},
    {"residual": "pre_norm", "norm": "rms_norm", "embedding_norm": True, "activation": "gelu"},
    {"position": "learned", "num_segments": 2, "embedding_norm": True, "pooler": "tanh"},
    {"residual": "pre_norm", "position": "learned", "num_segments": 2, "pooler": "tanh"},
    {"norm": "rms_norm", "num_segments": 2},
    {"activation": "gelu", "epsilon": 1e-2, "embedding_norm": True},
    {"activation": "gelu_tanh", "pooler": "relu"},
    {"num_layers": 1, "num_heads": 1, "position": "learned"},
    {"residual": "deep_norm", "activation": "gelu"},
    {"residual": "layer_scale", "norm": "rms_norm"},
    {"residual": "sandwich_norm", "pooler": "tanh"},
    {"residual": "sandwich_norm", "norm": "batch_norm", "embedding_norm": True},
    {"residual": "deep_norm", "norm": "power_norm"},
    {"residual": "pre_norm", "norm": "dynamic_tanh"},
    {"position": "none", "share_layers": True, "num_layers": 3},
    {"position": "alibi"},
    {"position": "relative", "position_options": {"num_buckets": 8, "max_distance": 16}},
    {"position": "disentangled", "position_options": {"bucket_size": 4, "max_distance": 7}},
    {
        "position": "disentangled",
        "position_options": {"bucket_size": None, "max_distance": 3, "norm": "none"},
        "attention_options": [
            {"disentangled": {"terms": ["p2c"]}},
            {"disentangled": {"terms": ["c2p"], "share_projections": False}},
        ],
        "residual": "pre_norm",
        "epsilon": 1e-3,
    },
    {"block_options": {"convolution": {"activation": "gelu"}}, "position": "none"},
    {
        "block_options": {"convolution": {"kernel_size": 5, "groups": 2}, "bottleneck_dim": 4},
        "embedding_options": {"token_embedding_dim": 4, "project_first": True},
        "embedding_norm": True,
    },
    {"position": "rotary", "position_options": {"max_wavelength": 100.0, "rotary_dim": 2}},
    MODERN,
    {**MODERN, "block_options": {"first_norm": False}, "norm": "layer_norm_no_bias"},
    MOBILE,
    PROTEIN,
    {**MOBILE, "norm": "layer_norm", "share_layers": True, "position": "relative"},
    {
        "norm": "rms_norm",
        "residual": "pre_norm",
        "block_options": {"bottleneck_dim": 6, "attention_bottleneck": "none"},
        "position": "rotary",
        "attention_options": {"key_dim": 4},
    },
    {
        "residual": "sandwich_norm",
        "block_options": {"bottleneck_dim": 10, "attention_bottleneck": "all"},
        "pooler": "tanh",
    },
    {"residual": "layer_scale", "norm": "batch_norm", "block_options": {"bottleneck_dim": 4}},
    {"attention_options": {"num_key_value_heads": 1, "key_dim": 3, "use_gate": True}},
    {"feed_forward_options": {"gated": True, "fused": True}, "activation": "silu"},
    {"embedding_options": {"token_embedding_dim": 4, "embedding_scale": 2.0}, "share_layers": True},
    {"position": "learned", "embedding_options": {"position_offset": 2, "embedding_scale": "sqrt"}},
    {"position": "relative", "embedding_options": {"position": "learned", "position_offset": 2}},
    {"position": "rotary", "num_segments": 1, "embedding_options": {"position": "sinusoidal"}},
]


def variant_name(kwargs):
    return ",".join(map(str, kwargs.values()))[:60]


each_variant = pytest.mark.parametrize("kwargs", VARIANTS, ids=variant_name)


@pytest.mark.parametrize("kwargs", [*VARIANTS, TRIGRAMS], ids=variant_name)
def test_values(rng, kwargs):
    encoder = built(rng, **kwargs)
    inputs = encoder_inputs(rng, segments=kwargs.get("num_segments", 0) > 1)
    want, want_pooled = reference.encoder(
        weights_of(encoder), **inputs, config=encoder.get_config()
    )
    outputs = encoder(inputs)
    assert set(outputs) == {"sequence_output"} | (
        {"pooled_output"} if "pooler" in kwargs else set()
    )
    got = to_numpy(outputs["sequence_output"])
    if kwargs.get("norm") in ("batch_norm", "power_norm"):
        # These are told of padding, which Keras then attaches to their outputs as a mask: the
        # next attention skips padded queries, whose rows are nobody's.
        keep = inputs["padding_mask"] == 1
        got, want = got[keep], want[keep]
    np.testing.assert_allclose(got, want, **TOLERANCE)
    if want_pooled is not None:
        np.testing.assert_allclose(to_numpy(outputs["pooled_output"]), want_pooled, **TOLERANCE)


@pytest.mark.parametrize("residual", ["post_norm", "re_zero"])
def test_without_any_norm(rng, residual):
    encoder = built(rng, residual=residual, norm="none", num_layers=1)
    inputs = encoder_inputs(rng)
    want, _ = reference.encoder(weights_of(encoder), **inputs, config=encoder.get_config())
    # Nothing brings the sums, of size 10 here, back to size 1.
    np.testing.assert_allclose(sequence(encoder, inputs), want, rtol=1e-5, atol=1e-4)


@each_variant
def test_longer_padding_does_not_change_real_rows(rng, kwargs):
    encoder = built(rng, **kwargs)
    inputs = encoder_inputs(rng, segments=kwargs.get("num_segments", 0) > 1)
    longer = {name: np.pad(x, [(0, 0), (0, 4)]) for name, x in inputs.items()}
    keep = inputs["padding_mask"] == 1
    # Masked keys add exact zeros, but matrices of another shape may sum in another order.
    np.testing.assert_allclose(
        sequence(encoder, longer)[:, :6][keep], sequence(encoder, inputs)[keep], **TOLERANCE
    )


def test_trigrams_reach_one_token_beyond_the_end(rng):
    """As in MobileBERT: the last token of a padded sequence sees the padding token."""
    encoder = built(rng, **TRIGRAMS)
    inputs = encoder_inputs(rng, segments=True)
    other = {**inputs, "token_ids": np.where(inputs["padding_mask"], inputs["token_ids"], 9)}
    x, y = (
        encoder.get_layer("embeddings")(i["token_ids"], i["segment_ids"]) for i in (inputs, other)
    )
    changed = np.any(to_numpy(x) != to_numpy(y), axis=-1)
    np.testing.assert_array_equal(changed[0], False)
    np.testing.assert_array_equal(changed[1], [0, 0, 0, 1, 1, 1])  # 4 tokens


@pytest.mark.parametrize("position", ["none", "rotary", "alibi", "relative", "disentangled"])
def test_where_the_padding_is_does_not_matter(rng, position):
    """On the left or on the right; in between too, where there are no positions."""
    encoder = built(rng, position=position)
    tokens = rng.integers(1, 11, size=(2, 4), dtype="int32")
    layouts = [[0, 1, 2, 3], [3, 4, 5, 6]] + ([[0, 2, 3, 6]] if position == "none" else [])
    outputs = []
    for real in layouts:
        ids = rng.integers(0, 11, size=(2, 7), dtype="int32")  # anything between
        mask = np.zeros_like(ids)
        ids[:, real], mask[:, real] = tokens, 1
        outputs.append(sequence(encoder, {"token_ids": ids, "padding_mask": mask})[:, real])
    for output in outputs[1:]:
        # Angles of another position are rounded otherwise, by 6e-8 of their size.
        np.testing.assert_allclose(output, outputs[0], **TOLERANCE)


@pytest.mark.parametrize("residual", RESIDUALS)
def test_content_of_padding_does_not_change_real_rows(rng, residual):
    encoder = built(rng, residual=residual, num_segments=2, pooler="tanh")
    inputs = encoder_inputs(rng, segments=True)
    keep = inputs["padding_mask"] == 1
    other = {
        "token_ids": np.where(keep, inputs["token_ids"], 9),
        "padding_mask": inputs["padding_mask"],
        "segment_ids": np.where(keep, inputs["segment_ids"], 1),
    }
    before, after = encoder(inputs), encoder(other)
    one, two = to_numpy(before["sequence_output"]), to_numpy(after["sequence_output"])
    np.testing.assert_array_equal(two[keep], one[keep])
    assert not np.allclose(two[~keep], one[~keep])
    np.testing.assert_array_equal(
        to_numpy(after["pooled_output"]), to_numpy(before["pooled_output"])
    )


@pytest.mark.parametrize("dtype", ["int32", "bool", "int64", "float32"])
def test_dtype_of_the_padding_mask_does_not_matter(rng, dtype):
    encoder = built(rng)
    inputs = encoder_inputs(rng)
    want = sequence(encoder, inputs)
    inputs["padding_mask"] = inputs["padding_mask"].astype(dtype)
    np.testing.assert_array_equal(sequence(encoder, inputs), want)


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
def test_every_length_up_to_the_limit_in_one_graph(rng, position):
    encoder = built(rng, position=position)
    spec = tf.TensorSpec((None, None), "int32")
    call = tf.function(
        lambda x: encoder(x)["sequence_output"],
        input_signature=[{"token_ids": spec, "padding_mask": spec}],
    )
    config = encoder.get_config()
    for length in (1, 2, 7, 10):
        inputs = encoder_inputs(rng, batch=1, length=length)
        want, _ = reference.encoder(weights_of(encoder), **inputs, config=config)
        np.testing.assert_allclose(to_numpy(call(inputs)), want, **TOLERANCE)
        np.testing.assert_allclose(sequence(encoder, inputs), want, **TOLERANCE)
    assert call.experimental_get_tracing_count() == 1
    with pytest.raises(tf.errors.InvalidArgumentError):
        call(encoder_inputs(rng, batch=1, length=11))


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("method", ["__call__", "predict"])
def test_a_longer_sequence_is_refused_clearly(rng, position, method):
    encoder = built(rng, position=position)
    with pytest.raises(ValueError, match="length 11.*Truncate it, or pass max_sequence_length=11"):
        getattr(encoder, method)(encoder_inputs(rng, length=11))


def test_dropout_acts_only_in_training(rng):
    encoder = built(rng, dropout=0.3)
    inputs = encoder_inputs(rng)
    np.testing.assert_array_equal(sequence(encoder, inputs), sequence(encoder, inputs))
    one, other = (to_numpy(encoder(inputs, training=True)["sequence_output"]) for _ in range(2))
    assert not np.allclose(one, other)


@pytest.mark.parametrize("attention_dropout", [None, 0.0, 0.2])
def test_dropout_rates_reach_their_places(attention_dropout):
    encoder = TransformerEncoder(
        **TINY_ENCODER, dropout=0.3, attention_dropout=attention_dropout, pooler="tanh"
    )
    attention = 0.3 if attention_dropout is None else attention_dropout
    assert encoder.get_layer("embeddings").dropout == 0.3
    for i in range(2):
        assert encoder.get_layer(f"layer_{i}_attention").dropout == attention
        assert encoder.get_layer(f"layer_{i}_feed_forward").dropout == 0.0
        for part in ("attention", "feed_forward"):
            assert encoder.get_layer(f"layer_{i}_{part}_add_norm").dropout == 0.3


@pytest.mark.parametrize("initializer", ["glorot_uniform", keras.initializers.RandomNormal()])
def test_no_two_kernels_or_tables_start_alike(initializer):
    sizes = {"vocabulary_size": 8, "max_sequence_length": 8, "num_segments": 8}
    encoder = TransformerEncoder(
        **{**TINY_ENCODER, **sizes, "intermediate_dim": 8},
        position="learned",
        pooler="tanh",
        kernel_initializer=initializer,
    )
    arrays = {
        w.path: to_numpy(w.value)
        for w in encoder.weights
        if w.path.endswith(("kernel", "embeddings"))
    }
    assert len(arrays) == 3 + 2 * 6 + 1
    for (one, a), (other, b) in itertools.combinations(arrays.items(), 2):
        assert not np.array_equal(a, b), (one, other)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_half_precision(rng, dtype, residual):
    encoder = TransformerEncoder(**TINY_ENCODER, residual=residual, pooler="tanh", dtype=dtype)
    inputs = encoder_inputs(rng)
    inputs["padding_mask"][2] = 0  # a sequence with nothing at all
    want = reference.encoder(weights_of(encoder), **inputs, config=encoder.get_config())
    compute = keras.dtype_policies.get(dtype).compute_dtype
    outputs = encoder(inputs)
    for output in keras.tree.flatten(outputs):
        assert keras.backend.standardize_dtype(output.dtype) == compute
    # Some twenty results of size 1 to 4 in a row are rounded by 2^-9 (bfloat16) or 2^-12
    # (float16) of their size.
    atol = 0.12 if "bfloat16" in dtype else 0.015
    got = [to_numpy(outputs[name]) for name in ("sequence_output", "pooled_output")]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


# Without any norm values grow, and with them the errors: not compared with `TOLERANCE`.
each_variant_and_re_zero = pytest.mark.parametrize("kwargs", [*VARIANTS, {"residual": "re_zero"}])


@each_variant_and_re_zero
def test_all_weights_train(rng, kwargs):
    encoder = built(rng, **kwargs)
    inputs = encoder_inputs(rng, segments=kwargs.get("num_segments", 0) > 1)
    before = weights_of(encoder)
    encoder.compile(keras.optimizers.SGD(1.0), loss="mse", run_eagerly=True)
    targets = {
        name: rng.normal(size=x.shape)
        for name, x in zip(sorted(encoder.output), flat_outputs(encoder(inputs)), strict=True)
    }
    encoder.fit(inputs, targets, epochs=1, verbose=0)
    # A key bias adds the same to all scores of a query, and a batch norm takes away what was added
    # to all rows: the gradients are 0 but for rounding.
    idle = ("key/bias",)
    if kwargs.get("norm") == "batch_norm":
        idle += ("output/bias", "bottleneck/dense/bias", "input_bottleneck/norm/beta")
    unchanged = [name for name, w in weights_of(encoder).items() if np.array_equal(w, before[name])]
    unchanged = [name for name in unchanged if not name.endswith(idle)]
    assert not unchanged


@each_variant_and_re_zero
def test_saved_and_loaded(rng, kwargs, tmp_path):
    encoder = built(rng, **kwargs)
    inputs = encoder_inputs(rng, segments=kwargs.get("num_segments", 0) > 1)
    encoder.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == encoder.get_config()
    for got, want in zip(flat_outputs(loaded(inputs)), flat_outputs(encoder(inputs)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("residual", ["post_norm", "pre_norm"])
@pytest.mark.parametrize("norm", ["batch_norm", "power_norm"])
def test_padding_stays_out_of_the_statistics_of_norms(rng, norm, residual):
    inputs = encoder_inputs(rng)
    other = {**inputs, "token_ids": np.where(inputs["padding_mask"], inputs["token_ids"], 7)}
    outcomes = []
    for data in (inputs, other):
        keras.utils.set_random_seed(1)
        model = TransformerEncoder(
            **TINY_ENCODER, norm=norm, residual=residual, embedding_norm=True, dropout=0.0
        )
        model(data, training=True)
        moving = [w for w in model.non_trainable_variables if "/moving_" in w.path]
        assert len(moving) >= 5
        outcomes.append([to_numpy(weight) for weight in moving])
    for got, want in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(got, want)
        assert not np.all((got == 0) | (got == 1))  # a step was taken


@pytest.mark.parametrize("mask", [[0.0, -1e9, 0.0], [1.0, 0.5, 0.0], [0, -10000, 0]])
def test_what_is_no_padding_mask_is_refused(mask):
    encoder = TransformerEncoder(**TINY_ENCODER)
    inputs = {"token_ids": np.ones((1, 3), "int32"), "padding_mask": np.array([mask])}
    with pytest.raises(ValueError, match="TransformerEncoder: `padding_mask` must hold 0 and 1"):
        encoder(inputs)


def test_with_a_bottleneck_only_the_joint_around_a_block_drops_anything():
    encoder = TransformerEncoder(**{**TINY_ENCODER, **MOBILE}, dropout=0.3, drop_path=0.2)
    for layer in (x for x in encoder.layers if x.name.endswith("_add_norm")):
        around = "output_bottleneck" in layer.name
        rates = (0.3, 0.2 * int(layer.name.split("_")[1])) if around else (0.0, 0.0)
        assert (layer.dropout, layer.drop_path) == rates
    assert encoder.get_layer("layer_0_attention").dropout == 0.3


def test_rotary_by_layer():
    options = [{}, {"rotary": None}, {"rotary": {"rotary_dim": 2}}]
    sizes = {**TINY_ENCODER, "num_layers": 3, "max_sequence_length": 600}
    for position in ("rotary", "none"):
        encoder = TransformerEncoder(**sizes, position=position, attention_options=options)
        found = [encoder.get_layer(f"layer_{i}_attention").rotary for i in range(3)]
        length = {"max_sequence_length": 600}
        first = length if position == "rotary" else None
        assert found == [first, None, {**length, "rotary_dim": 2}]
        ids = np.ones((1, 600), "int32")
        assert encoder({"token_ids": ids, "padding_mask": ids})["sequence_output"].shape[1] == 600
