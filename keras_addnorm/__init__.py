"""Transformer encoders that leave Keras and run everywhere."""

from keras_addnorm import layers, models

__version__ = "0.1.0"

__all__ = ["export", "layers", "models", "zoo"]


def __getattr__(name):
    # zoo and export are imported on first use: they need more than Keras.
    if name in ("export", "zoo"):
        import importlib

        return importlib.import_module(f"keras_addnorm.{name}")
    raise AttributeError(f"module 'keras_addnorm' has no attribute {name!r}")
