"""Back out: an encoder or task of ours as a Hugging Face checkpoint."""

import json

from keras_addnorm import files
from keras_addnorm.zoo.config import ConfigReader, default_labels
from keras_addnorm.zoo.preprocessing import write_preprocessor
from keras_addnorm.zoo.recognize import hugging_face_family
from keras_addnorm.zoo.sentence_transformers import write_modules
from keras_addnorm.zoo.tasks import task_of
from keras_addnorm.zoo.weight import collect_tensors

# Options of a head that do not change its outputs at inference.
_TRAINING_ONLY = frozenset({"dropout", "input_dropout", "bias_initializer"})


def to_hugging_face(model, folder, model_type=None, overwrite=False):
    """Writes a checkpoint folder that transformers loads, with the outputs of the model.

    `transformers.AutoModel.from_pretrained(folder)` gives the encoder, and the auto class of the
    task gives the task. The weights are float32. A `TextEmbedder` becomes a folder that
    sentence-transformers loads. Files of the tokenizer or of the
    image processor are written where the model has a preprocessor.

    Args:
        model: an encoder of ours, or a task over one.
        folder: where to write; it is whole or not there.
        model_type: a key of `zoo.FAMILIES`, for encoders that several families have (RoBERTa and
            XLM-RoBERTa). Default: the first that says exactly what the encoder computes.
        overwrite: whether an existing checkpoint folder may be replaced.

    Raises:
        ValueError: if no family says exactly what the model computes; the message says why.
        FileExistsError: if the folder exists and must not be replaced.

    Example:

    ```python
    encoder = keras_addnorm.zoo.from_hugging_face("minilm")
    keras_addnorm.zoo.to_hugging_face(encoder, "minilm_again")
    ```
    """
    files.refuse_existing([folder], overwrite, marker="config.json")
    task = task_of(model)
    encoder = model if task is None else model.backbone
    config, arguments = encoder.get_config(), model.get_config()
    family, keys = hugging_face_family(
        encoder, model_type, lambda family: find_head(family, task, config, arguments)[2]
    )
    architecture, head_keys, _ = find_head(family, task, config, arguments)
    about = {"architectures": [architecture], "model_type": family.model_type, "dtype": "float32"}
    tensors = _tensors(model, family, architecture, config, arguments)
    with files.staging(folder) as stage:
        new = stage / "new"
        new.mkdir()
        _write(new, {**about, **keys, **head_keys}, tensors)
        if task == "embed":
            write_modules(new, model)
        if getattr(model, "preprocessor", None) is not None:
            write_preprocessor(new, model.preprocessor)
        files.place_all([(new, folder)])


def _write(folder, config, tensors):
    from safetensors.numpy import save_file

    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    # transformers reads no file that does not say whose layout it has.
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _tensors(model, family, architecture, config, arguments):
    head = family.heads.get(architecture)
    prefix = "" if head is None else family.prefix
    weights = family.encoder_weights(config, prefix)
    if head is not None:
        weights += head.weights(config, arguments)
    tensors = collect_tensors(model, weights)
    if head is not None:
        for name, other in head.unread(arguments).items():
            tensors[name] = tensors[other].copy()
    if family.written_tensors is not None:
        stored = family.written_tensors(config)
        tensors |= {prefix + name: value for name, value in stored.items()}
    return tensors


def find_head(family, task, config, arguments):
    """The first class of transformers that says exactly what a task computes.

    Args:
        family: a `Family` whose encoder says what that of the task computes.
        task: a key of `zoo.tasks.TASKS`, None for an encoder.
        config: the encoder's config.
        arguments: the task's config.

    Returns:
        (name of the class, keys of its config, problems); a name where there are no problems.
    """
    if task in (None, "embed"):
        return family.architecture, {}, []
    problems = []
    for architecture, head in family.heads.items():
        if head.task == task:
            keys, wrong = _compare(family, head, config, arguments)
            if not wrong:
                return architecture, keys, []
            problems += [f"{architecture}: {problem}" for problem in wrong]
    return None, {}, problems or [f"it has no head for the task {task!r}"]


def _compare(family, head, config, arguments):
    try:
        keys = head.config_keys(config, arguments)
    except (KeyError, TypeError, ValueError) as error:
        return {}, [str(error)]
    reader = ConfigReader({**family.config_keys(config), **keys}, family.ignored_keys)
    back, ours = _computed(head.arguments(reader, config)), _computed(arguments)
    return keys, [
        f"`{name}` is {ours[name]!r}, not {value!r}"
        for name, value in back.items()
        if ours[name] != value
    ]


def _computed(arguments):
    """Arguments of a task without those that matter in training only; all classes have names."""
    arguments = {name: value for name, value in arguments.items() if name != "dropout"}
    options = arguments.get("head_options") or {}
    arguments["head_options"] = {k: v for k, v in options.items() if k not in _TRAINING_ONLY}
    if "num_classes" in arguments and not arguments.get("labels"):
        arguments["labels"] = default_labels(arguments["num_classes"])
    return arguments
