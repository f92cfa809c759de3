"""Learned positions of patches for images of another size."""

import numpy as np

from keras_addnorm.models import ImageEncoder, resampling
from keras_addnorm.zoo.shared.vit_like import grid_shape

TABLE = "embeddings/position_embeddings"


def resize(family, config, weights, read, image_size):
    """An encoder's arguments, and what reads its weights, for images of another size.

    Args:
        family: a `Family`.
        config: the encoder's arguments of the checkpoint.
        weights: its list of `Weight`.
        read: `(tensor, rows) -> array`, as in `load_weights`.
        image_size: int, or a pair of ints (height, width).

    Returns:
        `(config, read)` for images of that size.

    Raises:
        ValueError: if the encoder is none of images, or `image_size` no size.
    """
    pair = image_size if isinstance(image_size, (list, tuple)) else (image_size, image_size)
    whole = [isinstance(x, int) and not isinstance(x, bool) and x > 0 for x in pair]
    if family.encoder is not ImageEncoder or len(pair) != 2 or not all(whole):
        raise ValueError(
            "`image_size` must be an int or a pair (height, width), and only for encoders of "
            f"images. Received: image_size={image_size!r} for the family {family.model_type!r}. "
            "Pass for instance 224, or None."
        )
    resized = {**config, "image_shape": [*pair, config["image_shape"][2]]}
    old, new = grid_shape(config), grid_shape(resized)
    tables = {row.tensor for row in weights if row.variable == TABLE and old != new}

    def read_resized(tensor, rows):
        value = read(tensor, rows)
        if tensor not in tables:
            return value
        return interpolate(value, old, new, family.antialias_positions)

    return resized, read_resized


def interpolate(table, old, new, antialias):
    """A table of positions for another grid of patches, as `torch.nn.functional.interpolate`.

    Bicubic, with `align_corners=False`; computed in float64.

    Args:
        table: array `(..., tokens + patches, features)`; the tokens stay as they are.
        old: `(rows, columns)` of the patches.
        new: the same for the result.
        antialias: bool, whether the kernel is widened where the grid shrinks.

    Returns:
        float32 array `(..., tokens + new patches, features)`.
    """
    tokens = table.shape[-2] - old[0] * old[1]
    grid = table[..., tokens:, :].reshape(*old, -1).astype("float64")
    if antialias:
        grid = resampling.resize(grid, new, "bicubic")
    else:
        rows, columns = (_matrix(*sizes) for sizes in zip(old, new, strict=True))
        grid = np.einsum("ij,kl,jlf->ikf", rows, columns, grid, optimize=True)
    patches = grid.reshape(*table.shape[:-2], -1, table.shape[-1])
    return np.concatenate([table[..., :tokens, :], patches], axis=-2).astype("float32")


def _matrix(old, new):
    """The `(new, old)` matrix of bicubic interpolation along one axis."""
    centers = (np.arange(new) + 0.5)[:, None] * (old / new)
    weights = resampling.cubic(np.arange(-2, old + 2) + 0.5 - centers, a=-0.75)
    matrix = weights[:, 2:-2].copy()
    # What is taken beyond an edge is the value at the edge.
    matrix[:, 0] += weights[:, :2].sum(1)
    matrix[:, -1] += weights[:, -2:].sum(1)
    return matrix
