"""Transformer encoders that leave Keras and run everywhere."""

from keras_addnorm.registration import register_when_keras_is_loaded

__version__ = "0.1.0"

# Imported on first use: `text` needs no Keras, and the others need Keras and more.
_PARTS = ("export", "layers", "models", "text", "zoo")

# Found in `zoo` on first use.
_OF_ZOO = ("from_preset", "list_presets")

__all__ = ["load_model", *_PARTS, *_OF_ZOO]

register_when_keras_is_loaded()


def load_model(source):
    """Loads a model from a file or folder, as `keras_addnorm.zoo.load`.

    Keras loads a `.keras` file only once the package of its classes is imported; whoever calls
    this has imported it. Nothing is unpickled, and no code of a file is run.

    Args:
        source: path of a `.keras` file, of a KerasHub preset folder or of a Hugging Face
            checkpoint, `"hf://owner/name"`, or `"minilm"`.

    Returns:
        The model.

    Raises:
        CheckpointError, ValueError, ImportError, OSError: as `keras_addnorm.zoo.load`.

    Example:

    ```python
    model = keras_addnorm.load_model("my_encoder.keras")
    ```
    """
    return __getattr__("zoo").load(source)


def __getattr__(name):
    import importlib

    if name in _PARTS:
        return importlib.import_module(f"keras_addnorm.{name}")
    if name in _OF_ZOO:
        return getattr(importlib.import_module("keras_addnorm.zoo"), name)
    raise AttributeError(f"module 'keras_addnorm' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
