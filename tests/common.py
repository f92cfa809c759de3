"""Small functions that several test files use."""

import keras
import numpy as np
from keras import ops
from keras.src.backend import get_keras_mask, set_keras_mask

from keras_addnorm import models


def to_numpy(x):
    """A tensor as a float32 numpy array; exact for float32, float16 and bfloat16."""
    return np.asarray(ops.convert_to_numpy(ops.cast(x, "float32")))


def keras_mask(x):
    """The Keras mask attached to a tensor, or None."""
    mask = get_keras_mask(x)
    return mask if mask is None or isinstance(x, keras.KerasTensor) else ops.convert_to_numpy(mask)


def with_keras_mask(x, mask):
    """An array as a tensor with a Keras mask attached."""
    x = ops.convert_to_tensor(x)
    set_keras_mask(x, ops.convert_to_tensor(mask, "bool"))
    return x


def randomize(layer, rng):
    """Gives every float weight of a built layer a random value.

    Fresh weights hide mistakes: biases start at 0 and norm scales at 1, so neither shows. Running
    averages of squares stay positive.
    """
    for weight in layer.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            value = 0.5 * rng.normal(size=weight.shape) + 0.1
            squares = weight.path.endswith(("moving_variance", "moving_square"))
            weight.assign(np.abs(value) + 0.5 if squares else value)
    return layer


def weights_of(layer):
    """The weights of a layer or model as `{path below it: float64 array}`."""
    prefix = f"{layer.path}/"
    return {w.path.removeprefix(prefix): to_numpy(w.value).astype("float64") for w in layer.weights}


def flat_outputs(outputs):
    """All output tensors of a layer or model as numpy arrays, in a fixed order."""
    return [to_numpy(x) for x in keras.tree.flatten(outputs)]


def word_piece(vocabulary, **kwargs):
    """A lowercasing `Tokenizer` of WordPiece with BERT's special tokens."""
    from tokenizers import BertWordPieceTokenizer

    ids = {token: id for id, token in enumerate(vocabulary)}
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return models.Tokenizer(BertWordPieceTokenizer(ids, **kwargs).to_str(), **roles)


TINY_ENCODER = {
    "vocabulary_size": 11,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "max_sequence_length": 10,
}


TINY_IMAGE_ENCODER = {
    "image_shape": (8, 12, 3),
    "patch_size": 4,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}


def encoder_inputs(rng, batch=3, length=6, segments=False):
    """Token ids and masks for `TINY_ENCODER`; row i has `length - 2 * i` real tokens."""
    mask = np.arange(length) < length - 2 * np.arange(batch)[:, None]
    inputs = {
        "token_ids": rng.integers(1, 11, size=(batch, length), dtype="int32") * mask,
        "padding_mask": mask.astype("int32"),
    }
    if segments:
        inputs["segment_ids"] = rng.integers(0, 2, size=(batch, length), dtype="int32") * mask
    return {name: array.astype("int32") for name, array in inputs.items()}
