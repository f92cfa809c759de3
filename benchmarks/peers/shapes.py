"""Shapes that the benchmark measures: batch and length by name."""

SHAPES = {
    **{"16": (1, 16), "64": (1, 64), "128": (1, 128), "256": (1, 256), "512": (1, 512)},
    "8x128": (8, 128),
}
