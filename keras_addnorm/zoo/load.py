"""Loading a Keras model from whatever a user has on disk."""

import pathlib
import zipfile

import keras
from keras_hub.models import Backbone

from keras_addnorm.zoo.convert import from_hugging_face
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.sources import MAX_JSON_BYTES, read_object, resolve


def load(source):
    """Loads a model from a `.keras` file, a KerasHub preset folder, or a Hugging Face checkpoint.

    A Hugging Face folder with sentence-transformers' `modules.json` becomes a `TextEmbedder`, any
    other a `TransformerEncoder`. Nothing is unpickled, and no code of a file is run.

    Args:
        source: path of a file or folder, `"hf://owner/name"`, or `"minilm"`.

    Raises:
        CheckpointError, ValueError, ImportError, OSError: as `from_hugging_face` and Keras do.

    Example:

    ```python
    model = keras_addnorm.zoo.load("my_encoder.keras")
    ```
    """
    path = pathlib.Path(source)
    if path.suffix == ".keras":
        return _load_keras_file(path)
    folder = resolve(source)
    config = read_object(folder, "config.json")
    if "registered_name" in config:
        return _load_preset(folder, config)
    task = "embed" if (folder / "modules.json").is_file() else None
    return from_hugging_face(folder, task=task)


def _load_keras_file(path):
    if not path.is_file():
        raise ValueError(f"There is no file {path}. Check the path.")
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("config.json").file_size
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is no Keras model file: {error}") from error
    if size > MAX_JSON_BYTES:
        raise ValueError(
            f"{path} holds a config.json of {size} bytes; more than {MAX_JSON_BYTES} is refused."
        )
    return keras.saving.load_model(path, safe_mode=True)


def _load_preset(folder, config):
    task = read_object(folder, "task.json")
    name = (task or config).get("registered_name")
    cls = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if cls is None or not hasattr(cls, "from_preset"):
        raise CheckpointError(
            folder,
            [f"the preset is of class {name!r}, which is registered neither here nor in KerasHub"],
        )
    return cls.from_preset(str(folder)) if task else Backbone.from_preset(str(folder))
