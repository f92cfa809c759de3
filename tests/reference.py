"""The formulas in plain numpy and float64, written from the papers.

Nothing here comes from the package under test. Weights are numpy arrays in a flat dict; a name
in the dict is a path such as `"query/kernel"`.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=["float64"])

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "gelu_tanh": lambda x: (
        0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "quick_gelu": lambda x: x / (1.0 + np.exp(-1.702 * x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "hard_silu": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "relu_squared": lambda x: np.maximum(x, 0.0) ** 2,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "linear": lambda x: x,
}


def below(weights, prefix):
    """The weights whose path starts with `prefix/`, with that start removed."""
    prefix += "/"
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def dense(weights, x):
    y = x @ weights["kernel"]
    return y + weights["bias"] if "bias" in weights else y


def layer_norm(x, gamma, beta, epsilon=1e-5):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def rms_norm(x, scale, epsilon=1e-5):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def batch_moments(x, mask=None):
    """Mean, variance and mean square of each feature over the unpadded positions."""
    rows = x.reshape(-1, x.shape[-1]) if mask is None else x[np.asarray(mask, bool)]
    rows = rows.astype("float64")
    mean = rows.sum(0) / len(rows)
    return mean, ((rows - mean) ** 2).sum(0) / len(rows), (rows**2).sum(0) / len(rows)


def batch_norm(x, gamma, beta, mean, variance, epsilon=1e-5):
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def power_norm(x, gamma, beta, square, epsilon=1e-5):
    return x / np.sqrt(square + epsilon) * gamma + beta


def dynamic_tanh(x, alpha, gamma, beta):
    return gamma * np.tanh(alpha * x) + beta


def norm(weights, x, kind="layer_norm", epsilon=1e-5, mask=None, training=False):
    if kind == "batch_norm":
        moments = weights["moving_mean"], weights["moving_variance"]
        moments = batch_moments(x, mask)[:2] if training else moments
        return batch_norm(x, weights["gamma"], weights["beta"], *moments, epsilon)
    if kind == "power_norm":
        square = batch_moments(x, mask)[2] if training else weights["moving_square"]
        return power_norm(x, weights["gamma"], weights["beta"], square, epsilon)
    if kind == "dynamic_tanh":
        return dynamic_tanh(x, weights["alpha"], weights["gamma"], weights["beta"])
    if kind == "layer_norm":
        return layer_norm(x, weights["gamma"], weights["beta"], epsilon)
    if kind == "layer_norm_no_bias":
        assert "beta" not in weights
        return layer_norm(x, weights["gamma"], 0.0, epsilon)
    if kind == "affine":
        return weights["gamma"] * x + weights["beta"]
    if kind == "rms_norm":
        return rms_norm(x, weights["scale"], epsilon)
    assert kind == "none"
    return x


def add_norm(
    weights,
    x,
    y,
    kind="layer_norm",
    epsilon=1e-5,
    residual_scale=1.0,
    branch_kind="none",
    mask=None,
    training=False,
):
    """Returns (normed, total)."""
    branch = norm(below(weights, "branch_norm"), y, branch_kind, epsilon, mask, training)
    total = residual_scale * x + weights.get("branch_scale", 1.0) * branch
    return norm(below(weights, "norm"), total, kind, epsilon, mask, training), total


def rotate(
    x,
    max_wavelength=10000.0,
    rotary_dim=None,
    scaling_factor=1.0,
    interleaved=False,
    frequency_dtype="float64",
):
    """Rotary position embedding of `(batch, length, heads, features)`, pair by pair."""
    size = rotary_dim or x.shape[-1]
    out = np.array(x, "float64")
    for position, pair in np.ndindex(x.shape[1], size // 2):
        frequency = np.float32(max_wavelength ** (-2 * pair / size)).astype(frequency_dtype)
        if frequency_dtype == "float64":
            frequency = max_wavelength ** (-2 * pair / size)
        angle = position / scaling_factor * float(frequency)
        first, second = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + size // 2)
        a, b = x[:, position, :, first], x[:, position, :, second]
        out[:, position, :, first] = a * math.cos(angle) - b * math.sin(angle)
        out[:, position, :, second] = a * math.sin(angle) + b * math.cos(angle)
    return out


def multi_head_attention(
    weights,
    query,
    value=None,
    key=None,
    *,
    num_heads,
    num_key_value_heads=None,
    query_mask=None,
    value_mask=None,
    key_mask=None,
    attention_mask=None,
    causal=False,
    sliding_window=None,
    position_bias=0.0,
    rotary=None,
    qk_norm=None,
    disentangled=None,
    relative_keys=None,
    relative_queries=None,
):
    """Returns (output, scores), one query of one head at a time.

    The softmax runs over the keys that the query may see, and over those only. With none, scores
    and context are zero. The gate is used where `weights` has one.
    """
    value = query if value is None else value
    key = value if key is None else key
    groups = num_heads // (num_key_value_heads or num_heads)
    q, k, v = (
        np.stack(np.split(dense(below(weights, name), x), heads, axis=-1), 2)
        for name, x, heads in (
            ("query", query, num_heads),
            ("key", key, num_heads // groups),
            ("value", value, num_heads // groups),
        )
    )  # (batch, length, heads, size)
    if qk_norm is not None:
        q = norm(below(weights, "query_norm"), q, qk_norm, 1e-6)
        k = norm(below(weights, "key_norm"), k, qk_norm, 1e-6)
    if rotary is not None:
        q, k = rotate(q, **rotary), rotate(k, **rotary)
    batch, queries, _, key_dim = q.shape
    keys = k.shape[1]
    shape = (batch, num_heads, queries, keys)
    visible = np.ones(shape, bool)
    if query_mask is not None:
        visible &= np.asarray(query_mask, bool)[:, None, :, None]
    for mask in (value_mask, key_mask):
        if mask is not None:
            visible &= np.asarray(mask, bool)[:, None, None, :]
    if attention_mask is not None:
        mask = np.asarray(attention_mask, bool)
        visible &= mask[:, None] if mask.ndim == 3 else mask
    distance = np.arange(queries)[:, None] - np.arange(keys)
    if causal:
        visible &= distance >= 0
    if sliding_window is not None:
        visible &= np.abs(distance) < sliding_window

    bias = np.broadcast_to(position_bias, shape)
    scale = math.sqrt(key_dim)
    if disentangled is not None:
        terms = disentangled.get("terms", ["c2p", "p2c"])
        shared = disentangled.get("share_projections", True)
        scale = math.sqrt(key_dim * (1 + len(terms)))
        bias = bias + sum(
            distance_scores(weights, q, k, term, shared, relative) / scale
            for term, relative in (("c2p", relative_keys), ("p2c", relative_queries))
            if term in terms
        )
    scores = np.zeros(shape)
    context = np.zeros((batch, queries, num_heads, v.shape[-1]))
    for b, h, t in np.ndindex(batch, num_heads, queries):
        seen = np.flatnonzero(visible[b, h, t])
        if seen.size:
            logits = k[b, seen, h // groups] @ q[b, t, h] / scale + bias[b, h, t, seen]
            exponentials = np.exp(logits - logits.max())
            scores[b, h, t, seen] = exponentials / exponentials.sum()
            context[b, t, h] = scores[b, h, t, seen] @ v[b, seen, h // groups]
    context = context.reshape(batch, queries, -1)
    if any(name.startswith("gate/") for name in weights):
        context = context / (1.0 + np.exp(-dense(below(weights, "gate"), query)))
    return dense(below(weights, "output"), context), scores


def distance_scores(weights, q, k, term, shared, relative):
    """One term of disentangled attention, one query and one key at a time.

    Row r of `relative` is the vector of the distance r - (length - 1), counted from the query to
    the key for `"c2p"` and from the key to the query for `"p2c"`.
    """
    (batch, queries, heads, _), keys = q.shape, k.shape[1]
    name = ("" if shared else "relative_") + ("key" if term == "c2p" else "query")
    rows = dense(below(weights, name), np.broadcast_to(relative, (batch, *relative.shape[1:])))
    rows = np.stack(np.split(rows, heads, axis=-1), 2)  # (batch, queries + keys, heads, size)
    scores = np.zeros((batch, heads, queries, keys))
    for b, h, t, s in np.ndindex(*scores.shape):
        if term == "c2p":
            scores[b, h, t, s] = q[b, t, h] @ rows[b, s - t + queries - 1, h]
        else:
            scores[b, h, t, s] = k[b, s, h] @ rows[b, t - s + keys - 1, h]
    return scores


def relative_embedding(
    weights, length, bucket_size=256, max_distance=512, kind="layer_norm", epsilon=1e-7
):
    """The vectors of the distances from -(length - 1) to length, as keys and as queries."""
    table = norm(below(weights, "norm"), weights["relative_embeddings"], kind, epsilon)
    span = bucket_size or max_distance

    def row(distance):  # query - key
        bucket, size = distance, abs(distance)
        if bucket_size is not None and size > bucket_size // 2:
            middle = bucket_size // 2
            growth = math.log(size / middle) / math.log((max_distance - 1) / middle)
            bucket = (middle + math.ceil(growth * (middle - 1))) * (1 if distance > 0 else -1)
        return table[min(max(bucket + span, 0), 2 * span - 1)]

    distances = range(1 - length, length + 1)
    return {
        "relative_keys": np.array([[row(-d) for d in distances]]),
        "relative_queries": np.array([[row(d) for d in distances]]),
    }


def sequence_convolution(weights, x, mask=None, activation="tanh", groups=1):
    """One position, one neighbour and one group of features at a time."""
    kernel = weights["convolution/kernel"]  # (neighbours, features / groups, features)
    reach, width = kernel.shape[0] // 2, kernel.shape[1]
    keep = np.ones(x.shape[:2]) if mask is None else np.asarray(mask, "float64")
    y = np.zeros(x.shape)
    for b, t, s, group in np.ndindex(*x.shape[:2], kernel.shape[0], groups):
        source, own = t + s - reach, slice(group * width, (group + 1) * width)
        if 0 <= source < x.shape[1]:
            y[b, t, own] += keep[b, source] * x[b, source, own] @ kernel[s][:, own]
    return ACTIVATIONS[activation](y + weights.get("convolution/bias", 0.0))


def feed_forward(weights, x, activation="relu", fused=False):
    """Gated where there is a gate kernel, or where half of the intermediate one is the gate."""
    hidden = dense(below(weights, "intermediate"), x)
    if fused:
        gate, value = np.split(hidden, 2, axis=-1)
        hidden = ACTIVATIONS[activation](gate) * value
    elif "gate/kernel" in weights:
        hidden = ACTIVATIONS[activation](dense(below(weights, "gate"), x)) * hidden
    else:
        hidden = ACTIVATIONS[activation](hidden)
    return dense(below(weights, "output"), hidden)


def projection(weights, x, kind="none", epsilon=1e-5):
    return norm(below(weights, "norm"), dense(below(weights, "dense"), x), kind, epsilon)


def sinusoids(length, features, max_wavelength=10000.0):
    table = np.zeros((length, features))
    for position in range(length):
        for column in range(features):
            i = column // 2
            angle = position / max_wavelength ** (2 * i / features)
            table[position, column] = math.sin(angle) if column % 2 == 0 else math.cos(angle)
    return table


def neighbours(x, window):
    """The features of `window` positions side by side, the last one first; 0 beyond the ends."""
    batch, length, features = x.shape
    rows = np.zeros((batch, length, window * features))
    for position, i in np.ndindex(length, window):
        source = position + window // 2 - i
        if 0 <= source < length:
            rows[:, position, i * features : (i + 1) * features] = x[:, source]
    return rows


def token_and_position_embedding(
    weights,
    token_ids,
    segment_ids=None,
    mask=None,
    *,
    position="learned",
    kind=None,
    epsilon=1e-5,
    offset=0,
    scale=1.0,
    window=None,
    mask_token=None,
    rate=0.12,
    zero_padding=False,
    first=False,
):
    tokens = weights["token_embedding/embeddings"]
    length = token_ids.shape[1]
    x = scale * tokens[token_ids]
    keep = np.ones(token_ids.shape) if mask is None else np.asarray(mask, "float64")
    if mask_token is not None:
        for b in range(len(x)):
            masked = token_ids[b] == mask_token
            x[b, masked] = 0.0
            if not masked.all():
                x[b] *= (1.0 - rate) / (1.0 - masked.sum() / keep[b].sum())
    if window is not None:
        x = dense(below(weights, "projection"), neighbours(x, window))
    if position == "learned":
        x = x + weights["position_encoding/position_embeddings"][offset + np.arange(length)]
    elif position == "sinusoidal":
        x = x + sinusoids(length, x.shape[-1])
    if "segment_embedding/embeddings" in weights:
        segments = 0 if segment_ids is None else segment_ids
        x = x + weights["segment_embedding/embeddings"][segments]
    x = dense(below(weights, "projection"), x) if first else x
    x = x if kind is None else norm(below(weights, "norm"), x, kind, epsilon)
    x = x * keep[..., None] if zero_padding else x
    late = window is None and not first and "projection/kernel" in weights
    return dense(below(weights, "projection"), x) if late else x


def patch_embedding(weights, images, patch_size):
    """One patch of one image at a time."""
    kernel, (height, width) = weights["projection/kernel"], patch_size
    rows, columns = images.shape[1] // height, images.shape[2] // width
    classes = weights.get("class_tokens", np.zeros((0, kernel.shape[-1])))
    registers = weights.get("register_tokens", np.zeros((0, kernel.shape[-1])))
    positions = weights.get("position_embeddings")
    outputs = []
    for image in images:
        tokens = list(classes)
        for r, c in np.ndindex(rows, columns):
            patch = image[r * height : (r + 1) * height, c * width : (c + 1) * width]
            tokens.append(patch.ravel() @ kernel.reshape(-1, kernel.shape[-1]))
            if "projection/bias" in weights:
                tokens[-1] = tokens[-1] + weights["projection/bias"]
        if positions is not None:
            tokens = [token + p for token, p in zip(tokens, positions, strict=True)]
        outputs.append([*tokens[: len(classes)], *registers, *tokens[len(classes) :]])
    return np.array(outputs)


def alibi(num_heads, length):
    """Symmetric ALiBi for a number of heads that is a power of 2, `(1, heads, length, length)`."""
    bias = np.zeros((1, num_heads, length, length))
    for head, i, j in np.ndindex(num_heads, length, length):
        bias[0, head, i, j] = -(2.0 ** (-8.0 * (head + 1) / num_heads)) * abs(i - j)
    return bias


def relative_bias(weights, length, num_buckets=32, max_distance=128):
    """T5's bidirectional buckets, `(1, heads, length, length)`."""
    table, half = weights["relative_attention_bias"], num_buckets // 2
    bias = np.zeros((1, table.shape[1], length, length))
    for i, j in np.ndindex(length, length):
        distance, exact = abs(j - i), half // 2
        if distance >= exact:
            growth = math.log(distance / exact) / math.log(max_distance / exact)
            distance = min(exact + int(growth * (half - exact)), half - 1)
        bias[0, :, i, j] = table[distance + (half if j > i else 0)]
    return bias


def positions(weights, config, length):
    """What every attention is called with."""
    options = dict(config["position_options"])
    if config["position"] == "alibi":
        return {"position_bias": alibi(config["num_heads"], length)}
    if config["position"] == "relative":
        bias = relative_bias(below(weights, "position_bias"), length, **options)
        return {"position_bias": bias}
    if config["position"] == "disentangled":
        options = {
            "epsilon": config["epsilon"],
            "kind": options.pop("norm", "layer_norm"),
            **options,
        }
        return relative_embedding(below(weights, "relative_embedding"), length, **options)
    return {}


def attention_options(config, layer):
    """The keyword arguments of `multi_head_attention` in one layer of an encoder."""
    options = config["attention_options"]
    options = dict(options[layer % len(options)] if isinstance(options, list) else options)
    if config["position"] == "rotary":
        options["rotary"] = {**config["position_options"], **options.get("rotary", {})}
    if config["position"] == "disentangled":
        options["disentangled"] = options.get("disentangled", {})
    known = ("num_key_value_heads", "sliding_window", "rotary", "qk_norm", "disentangled")
    return {name: options[name] for name in known if name in options}


def blocks(weights, x, padding_mask=None, *, config):
    """Everything behind the embeddings, without dropout; (sequence, pooled output or None)."""
    kind, epsilon, layers = config["norm"], config["epsilon"], config["num_layers"]
    carries_total = config["residual"] not in ("post_norm", "deep_norm")
    residual_scale = (2.0 * layers) ** 0.25 if config["residual"] == "deep_norm" else 1.0
    branch_kind = kind if config["residual"] == "sandwich_norm" else "none"
    shared = positions(weights, config, x.shape[1])
    options = {"first_norm": True, "num_feed_forwards": 1, **config["block_options"]}
    sublayers = ["attention", "feed_forward"]
    sublayers += [f"feed_forward_{j}" for j in range(1, options["num_feed_forwards"])]
    has_first = carries_total and options["first_norm"]
    n = norm(below(weights, "first_norm"), x, kind, epsilon) if has_first else x

    def add(name, x, y):
        w = below(weights, f"{name}_add_norm")
        normed, total = add_norm(w, x, y, kind, epsilon, residual_scale, branch_kind)
        return normed, total if carries_total else normed

    embeddings = x
    for i in range(layers):
        layer = f"layer_{0 if config['share_layers'] else i}"
        outer, query, value = x, n, n
        if "bottleneck_dim" in options:
            seen = options.get("attention_bottleneck", "query_key")
            if seen == "query_key":
                query = projection(
                    below(weights, f"{layer}_query_key_bottleneck"), n, kind, epsilon
                )
            n = x = projection(below(weights, f"{layer}_input_bottleneck"), n, kind, epsilon)
            if seen == "all":
                query = value = n
        for sublayer in sublayers:
            w = below(weights, f"{layer}_{sublayer}")
            if sublayer == "attention":
                y, _ = multi_head_attention(
                    w,
                    query,
                    value,
                    query,
                    num_heads=config["num_heads"],
                    key_mask=padding_mask,
                    **shared,
                    **attention_options(config, i),
                )
            else:
                fused = config["feed_forward_options"].get("fused", False)
                y = feed_forward(w, n, config["activation"], fused)
            n, x = add(f"{layer}_{sublayer}", x, y)
        if "bottleneck_dim" in options:
            name = f"{layer}_output_bottleneck"
            n, x = add(name, outer, projection(below(weights, name), n))
        if i == 0 and "convolution" in options:
            arguments = {k: v for k, v in options["convolution"].items() if k != "kernel_size"}
            w = below(weights, "layer_0_convolution")
            y = sequence_convolution(w, embeddings, padding_mask, **arguments)
            n, x = add("layer_0_convolution", x, y)
    if config["pooler"] is None:
        return n, None
    return n, ACTIVATIONS[config["pooler"]](dense(below(weights, "pooler"), n[:, 0]))


def encoder(weights, token_ids, padding_mask, segment_ids=None, *, config):
    """The whole text encoder without dropout; returns (sequence output, pooled output or None)."""
    kind = "layer_norm" if config["norm"] == "none" else config["norm"]
    options = config["embedding_options"]
    scale = options.get("embedding_scale", 1.0)
    inside = config["position"] in ("rotary", "alibi", "relative", "disentangled")
    x = token_and_position_embedding(
        below(weights, "embeddings"),
        token_ids,
        segment_ids,
        padding_mask,
        position=options.get("position", "none") if inside else config["position"],
        kind=kind if config["embedding_norm"] else None,
        epsilon=config["epsilon"],
        offset=options.get("position_offset", 0),
        scale=math.sqrt(config["hidden_dim"]) if scale == "sqrt" else scale,
        window=options.get("projection_window"),
        mask_token=options.get("mask_token_id"),
        rate=options.get("mask_token_rate", 0.12),
        zero_padding=options.get("zero_padding", False),
        first=options.get("project_first", False),
    )
    return blocks(weights, x, padding_mask, config=config)


def pooling(x, padding_mask, kind="mean", normalize=False):
    pooled = np.zeros((x.shape[0], x.shape[2]))
    for b in range(x.shape[0]):
        kept = x[b, np.asarray(padding_mask[b], bool)]
        numbers = np.flatnonzero(padding_mask[b]) + 1
        if kind == "cls":
            pooled[b] = x[b, 0]
        elif len(kept):
            pooled[b] = {
                "mean": lambda kept: kept.mean(0),
                "max": lambda kept: kept.max(0),
                "last": lambda kept: kept[-1],
                "weighted_mean": lambda kept, numbers=numbers: np.average(kept, 0, numbers),
            }[kind](kept)
    if normalize:
        pooled /= np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
    return pooled


def head(weights, x, activation="tanh", norm_kind="none", epsilon=1e-5):
    """`weights` with `dense/`, `norm/` and `output/`; those that are missing are left out."""
    if "dense/kernel" in weights:
        x = ACTIVATIONS[activation](dense(below(weights, "dense"), x))
        x = norm(below(weights, "norm"), x, norm_kind, epsilon)
    return dense(below(weights, "output"), x) if "output/kernel" in weights else x
