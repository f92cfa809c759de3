"""Loading a Keras model from a name, or from whatever a user has on disk."""

import difflib
import pathlib
import zipfile

import keras
from keras_hub.models import Backbone

from keras_addnorm.models.encoder import Encoder
from keras_addnorm.zoo import registry
from keras_addnorm.zoo.convert import from_hugging_face
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.keras_hub import from_keras_hub, has_family
from keras_addnorm.zoo.positions import resize
from keras_addnorm.zoo.sources import MAX_JSON_BYTES, PACKAGES, read_object, resolve
from keras_addnorm.zoo.tasks import task_class

KAGGLE = "kaggle://"


def load(source):
    """Loads a model from a file, a folder or a name, as what it was made for.

    A checkpoint with a head that the zoo knows becomes the task, one with sentence-transformers'
    `modules.json` a `TextEmbedder`, any other the encoder. Nothing is unpickled, and no code of
    a file is run.

    Args:
        source: path of a `.keras` file, or what `from_preset` takes.

    Raises:
        CheckpointError, ValueError, ImportError, OSError: as `from_preset` and Keras do.

    Example:

    ```python
    model = keras_addnorm.zoo.load("my_encoder.keras")
    ```
    """
    path = pathlib.Path(source)
    if path.suffix == ".keras":
        return _load_keras_file(path)
    return from_preset(source, task="auto")


def from_preset(name, task=None, dtype="float32", image_size=None):
    """Builds a published encoder, or a task over it, by name or from where its weights are.

    Args:
        name: a name of `list_presets`: with a tag it has that tag's weights, which come from
            Hugging Face or an installed package, without one it is the architecture with random
            weights. Or a source of weights: the folder of a KerasHub preset or of a Hugging Face
            checkpoint, `"hf://owner/name"`, `"kaggle://..."`, a name of KerasHub's own presets,
            or `"minilm"`.
        task: `None` for the encoder; `"auto"` for what the weights were made for; or a task, as
            in `from_hugging_face`.
        dtype: dtype policy of the layers.
        image_size: int or `(height, width)`, for published names and Hugging Face checkpoints of
            images, as in `from_hugging_face`.

    Returns:
        A `TransformerEncoder` or `ImageEncoder`, or a task of `keras_addnorm.models`; what
        KerasHub loads, where it is of no family of the zoo.

    Raises:
        CheckpointError: listing everything about a checkpoint that cannot be honoured.
        ValueError: on an unknown name or task, or an `image_size` where there is none.
        ImportError: if the package that carries the weights is not installed.
        OSError: if weights can be had neither from the cache nor from the network.

    Example:

    ```python
    encoder = keras_addnorm.from_preset("bert_base_uncased")  # the architecture
    embedder = keras_addnorm.from_preset("minilm_l6_h384.all_v2", task="embed")  # its weights
    ```
    """
    found = registry.find(name)
    if found is not None:
        return _from_registry(name, *found, task, dtype, image_size)
    if str(name).startswith(KAGGLE) or name in Backbone.presets:
        _refuse_image_size(name, image_size)
        return _from_keras_hub(str(name), task, dtype)
    close = difflib.get_close_matches(str(name), registry.list_presets(), n=3)
    try:
        folder = resolve(name)
    except ValueError as error:
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"{error}{hint}") from None
    config = read_object(folder, "config.json")
    if "registered_name" in config:
        _refuse_image_size(name, image_size)
        return _load_preset(folder, config, task, dtype)
    return from_hugging_face(folder, task=task, dtype=dtype, image_size=image_size)


def _refuse_image_size(name, image_size):
    if image_size is not None:
        raise ValueError(
            "`image_size` is for published names and for Hugging Face checkpoints; a preset of "
            f"Keras has the size it was saved with. Received: image_size={image_size!r} for "
            f"{str(name)!r}. Leave it out."
        )


def _from_registry(name, family, preset, published, task, dtype, image_size):
    if published is not None:
        at_hand = published.package in PACKAGES
        source = published.package if at_hand else f"hf://{published.repository}"
        return from_hugging_face(source, task=task, dtype=dtype, image_size=image_size)
    if task not in (None, "auto"):
        tags = ", ".join(f"'{name}.{tag}'" for tag in preset.tags) or "a checkpoint"
        raise ValueError(
            f"{name!r} is an architecture without weights, so it has no task. "
            f"Received: task={task!r}. Pass {tags}, or build the task over the encoder."
        )
    config = registry.encoder_config(family, preset)
    if image_size is not None:
        config, _ = resize(family, config, (), None, image_size)
    return family.encoder(**config, dtype=dtype)


def _from_keras_hub(name, task, dtype):
    if task not in (None, "auto"):
        raise ValueError(
            f"Of KerasHub's presets only the encoder is taken. Received: task={task!r} for "
            f"{name!r}. Pass task=None and build the task over it."
        )
    try:
        backbone = Backbone.from_preset(name, dtype=dtype)
    except (OSError, ValueError, ImportError) as error:
        raise OSError(
            f"Cannot get the KerasHub preset {name!r} from Kaggle, and it is not in the local "
            "cache. Check the name and the network; or save it on another machine with "
            f"`save_to_preset` and pass the folder. ({type(error).__name__})"
        ) from error
    return from_keras_hub(backbone, dtype=dtype) if has_family(backbone) else backbone


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


def _load_preset(folder, config, task, dtype):
    """A KerasHub preset folder: the task in it, if that is asked for, else the backbone."""
    saved = read_object(folder, "task.json") if task is not None else {}
    name = (saved or config).get("registered_name")
    cls = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if cls is None or not hasattr(cls, "from_preset"):
        raise CheckpointError(
            folder,
            [f"the preset is of class {name!r}, which is registered neither here nor in KerasHub"],
        )
    wanted = cls if task in (None, "auto") else task_class(task)
    if wanted is not cls:
        raise CheckpointError(
            folder, [f"task={task!r} needs a preset of {wanted.__name__}, this one is of {name!r}"]
        )
    if saved:
        return cls.from_preset(str(folder), dtype=dtype)
    backbone = Backbone.from_preset(str(folder), dtype=dtype)
    if isinstance(backbone, Encoder) or not has_family(backbone):
        return backbone
    return from_keras_hub(backbone, dtype=dtype)
