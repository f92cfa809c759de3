"""Every norm leaves Keras as built-in ops in one delegate partition."""

import keras
import pytest

from keras_addnorm import export
from keras_addnorm.layers import AddNorm, FeedForward, MultiHeadAttention, TokenAndPositionEmbedding
from keras_addnorm.layers.norms import NORMS
from tests.export import common


def model_with(norm):
    """One pre-norm block with a Keras mask, and every part that a joint can have."""
    token_ids = keras.Input((None,), dtype="int32", name="ids")
    x = TokenAndPositionEmbedding(50, 32, 32, mask_zero=True, embedding_norm=norm)(token_ids)
    joint = {"norm": norm, "branch_norm": norm, "branch_scale": 1.0, "drop_path": 0.1}
    x = AddNorm(**joint)(x, MultiHeadAttention(4)(x))
    n, x = AddNorm(**joint, branch_scale_axis=-1, return_sum=True)(x, FeedForward(64)(x))
    return common.randomize(keras.Model(token_ids, {"normed": n, "total": x}))


@pytest.mark.parametrize("sequence_length", [16, None])
@pytest.mark.parametrize("norm", NORMS)
def test_is_exported_in_one_partition(tmp_path, norm, sequence_length):
    path = tmp_path / "model.tflite"
    report = export.to_tflite(model_with(norm), path, sequence_length=sequence_length)
    assert report.xnnpack_partitions == 1
    # Some ten float32 products in another order, on values of a few units.
    for difference in report.verification.values():
        assert difference.max_abs_error <= 1e-4 * max(1, difference.max_abs_value)
