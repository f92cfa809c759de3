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
    "tanh": np.tanh,
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


def multi_head_attention(
    weights,
    query,
    value=None,
    key=None,
    *,
    num_heads,
    query_mask=None,
    value_mask=None,
    key_mask=None,
    attention_mask=None,
    causal=False,
):
    """Returns (output, scores), one query of one head at a time.

    The softmax runs over the keys that the query may see, and over those only. With none, scores
    and context are zero.
    """
    value = query if value is None else value
    key = value if key is None else key
    q, k, v = (
        np.stack(np.split(dense(below(weights, name), x), num_heads, axis=-1), 1)
        for name, x in (("query", query), ("key", key), ("value", value))
    )
    batch, _, queries, key_dim = q.shape
    keys = k.shape[2]
    visible = np.ones((batch, num_heads, queries, keys), bool)
    if query_mask is not None:
        visible &= np.asarray(query_mask, bool)[:, None, :, None]
    for mask in (value_mask, key_mask):
        if mask is not None:
            visible &= np.asarray(mask, bool)[:, None, None, :]
    if attention_mask is not None:
        mask = np.asarray(attention_mask, bool)
        visible &= mask[:, None] if mask.ndim == 3 else mask
    if causal:
        visible &= np.arange(keys)[None, :] <= np.arange(queries)[:, None]

    scores = np.zeros(visible.shape)
    context = np.zeros((batch, queries, num_heads, v.shape[-1]))
    for b, h, t in np.ndindex(batch, num_heads, queries):
        seen = np.flatnonzero(visible[b, h, t])
        if seen.size:
            logits = k[b, h, seen] @ q[b, h, t] / math.sqrt(key_dim)
            exponentials = np.exp(logits - logits.max())
            scores[b, h, t, seen] = exponentials / exponentials.sum()
            context[b, t, h] = scores[b, h, t, seen] @ v[b, h, seen]
    return dense(below(weights, "output"), context.reshape(batch, queries, -1)), scores


def feed_forward(weights, x, activation="relu"):
    hidden = ACTIVATIONS[activation](dense(below(weights, "intermediate"), x))
    return dense(below(weights, "output"), hidden)


def sinusoids(length, features, max_wavelength=10000.0):
    table = np.zeros((length, features))
    for position in range(length):
        for column in range(features):
            i = column // 2
            angle = position / max_wavelength ** (2 * i / features)
            table[position, column] = math.sin(angle) if column % 2 == 0 else math.cos(angle)
    return table


def token_and_position_embedding(
    weights, token_ids, segment_ids=None, *, position="learned", kind=None, epsilon=1e-5
):
    tokens = weights["token_embedding/embeddings"]
    length = token_ids.shape[1]
    if position == "learned":
        positions = weights["position_encoding/position_embeddings"][:length]
    else:
        positions = sinusoids(length, tokens.shape[1])
    x = tokens[token_ids] + positions
    if segment_ids is not None:
        x = x + weights["segment_embedding/embeddings"][segment_ids]
    return x if kind is None else norm(below(weights, "norm"), x, kind, epsilon)


def encoder(weights, token_ids, padding_mask, segment_ids=None, *, config):
    """The whole encoder without dropout; returns (sequence output, pooled output or None)."""
    kind, epsilon = config["norm"], config["epsilon"]
    pre_norm = config["residual"] == "pre_norm"
    x = token_and_position_embedding(
        below(weights, "embeddings"),
        token_ids,
        segment_ids,
        position=config["position"],
        kind=kind if config["embedding_norm"] else None,
        epsilon=epsilon,
    )
    n = norm(below(weights, "first_norm"), x, kind, epsilon) if pre_norm else x
    for i in range(config["num_layers"]):
        for sublayer in ("attention", "feed_forward"):
            w = below(weights, f"layer_{i}_{sublayer}")
            if sublayer == "attention":
                y, _ = multi_head_attention(
                    w, n, num_heads=config["num_heads"], key_mask=padding_mask
                )
            else:
                y = feed_forward(w, n, config["activation"])
            n, total = add_norm(
                below(weights, f"layer_{i}_{sublayer}_add_norm"), x, y, kind, epsilon
            )
            x = total if pre_norm else n
    if config["pooler"] is None:
        return n, None
    return n, ACTIVATIONS[config["pooler"]](dense(below(weights, "pooler"), n[:, 0]))


def pooling(x, padding_mask, kind="mean", normalize=False):
    pooled = np.zeros((x.shape[0], x.shape[2]))
    for b in range(x.shape[0]):
        kept = x[b, np.asarray(padding_mask[b], bool)]
        if kind == "cls":
            pooled[b] = x[b, 0]
        elif len(kept):
            pooled[b] = kept.mean(0) if kind == "mean" else kept.max(0)
    if normalize:
        pooled /= np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
    return pooled
