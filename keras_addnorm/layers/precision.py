"""What keeps half precision exact and finite: sums in float32, and no infinity in float16.

Joints, embeddings and rotations add in float32 and round once. Values beyond 65504, the largest
float16, stop there, as in T5's float16 code: one layer later an infinity would be NaN, whether by
a norm, by a sum with an infinity of the other sign or by a probability of 0. Everything here
leaves tensors of float32 and wider as they are, and adds nothing to their graphs.
"""

import keras
from keras import ops

FLOAT16_MAX = 65504.0


def widen(x):
    """`x` in float32, or in its own dtype where that is wider."""
    return _cast(x, keras.backend.result_type(x.dtype, "float32"))


def narrow(x, dtype):
    """`x` in `dtype`, an output's; float16 stops at its largest values."""
    if dtype == "float16":
        x = ops.clip(x, -FLOAT16_MAX, FLOAT16_MAX)
    return _cast(x, dtype)


def saturate(x):
    """`x` in its own dtype, without infinities where that is float16."""
    return narrow(x, keras.backend.standardize_dtype(x.dtype))


def each_policy(policy, function):
    """A dtype policy through `function`; of a `DTypePolicyMap`, each of its policies."""
    if not isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return function(policy)
    policies = {path: function(entry) for path, entry in policy.items()}
    return keras.dtype_policies.DTypePolicyMap(function(policy.default_policy), policies)


def full_precision(policy):
    """A dtype policy that computes in the dtype of the weights: float32 in mixed precision."""

    def full(policy):
        mixed = policy.compute_dtype != policy.variable_dtype
        return keras.DTypePolicy(policy.variable_dtype) if mixed else policy

    return each_policy(policy, full)


def _cast(x, dtype):
    return x if keras.backend.standardize_dtype(x.dtype) == dtype else ops.cast(x, dtype)
