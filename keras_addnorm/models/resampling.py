"""Resizing of images, value for value as Pillow does it, which image classifiers are trained with.

Of 8-bit images each step is rounded. The width goes first, as in torch; Pillow 13 takes the height
first for some sizes.
"""

import math

import numpy as np

# Pillow computes 8-bit images with fixed-point weights of so many fractional bits.
FRACTION_BITS = 22


def cubic(x, a=-0.5):
    """The cubic convolution kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _triangle(x):
    return np.maximum(1.0 - np.abs(x), 0.0)


def _lanczos3(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


# Kernels and how far they reach, by KerasHub's names.
KERNELS = {"bilinear": (_triangle, 1), "bicubic": (cubic, 2), "lanczos3": (_lanczos3, 3)}


def resize(images, size, interpolation):
    """Resizes images; where they shrink, the kernel is widened, so that every pixel counts.

        output_i = sum_j w_ij input_j,  w_ij = k((j + 1/2 - (i + 1/2) s) / max(s, 1)) / sum_j ...

    with s the old size over the new one; along the width first, then along the height.

    Args:
        images: array `(..., height, width, channels)`. uint8 stays uint8, rounded after each of
            the two steps; other dtypes become float64.
        size: `(height, width)` of the result.
        interpolation: a key of `KERNELS`.

    Source: kernels: Keys, 1981, doi:10.1109/TASSP.1981.1163711; Lanczos: Turkowski, 1990.
    """
    for axis, new in ((-2, size[1]), (-3, size[0])):
        if images.shape[axis] != new:
            images = _resize_axis(images, axis, new, *KERNELS[interpolation])
    return images


def _resize_axis(images, axis, new, kernel, reach):
    lines = np.ascontiguousarray(np.moveaxis(images, axis, 0))
    is_8_bit = images.dtype == np.uint8
    result = np.empty((new, *lines.shape[1:]), "uint8" if is_8_bit else "float64")
    for i, (first, weights) in enumerate(_weights(len(lines), new, kernel, reach)):
        part = lines[first : first + len(weights)]
        if is_8_bit:
            fixed = np.trunc(weights * 2.0**FRACTION_BITS + np.copysign(0.5, weights))
            total = np.tensordot(fixed, part, 1)  # whole numbers below 2^53: exact
            result[i] = np.clip(np.floor(total / 2.0**FRACTION_BITS + 0.5), 0, 255)
        else:
            result[i] = np.tensordot(weights, part, 1)
    return np.moveaxis(result, 0, axis)


def _weights(old, new, kernel, reach):
    """For each new position the first old one that counts, and the weights from there on."""
    scale = old / new
    wide = max(scale, 1.0)
    for i in range(new):
        center = (i + 0.5) * scale
        first = max(math.trunc(center - reach * wide + 0.5), 0)
        last = min(math.trunc(center + reach * wide + 0.5), old)
        weights = kernel((np.arange(first, last) - center + 0.5) / wide)
        yield first, weights / weights.sum()
