"""Back out: an encoder or task of ours as a Hugging Face checkpoint."""

import json

from keras_addnorm import files
from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.preprocessing import write_tokenizer
from keras_addnorm.zoo.recognize import hugging_face_family
from keras_addnorm.zoo.sentence_transformers import write_modules
from keras_addnorm.zoo.tasks import task_of
from keras_addnorm.zoo.weight import collect_tensors


def to_hugging_face(model, folder, model_type=None, overwrite=False):
    """Writes a checkpoint folder that transformers loads, with the outputs of the model.

    `transformers.AutoModel.from_pretrained(folder)` gives the encoder, and the auto class of the
    task gives the task. The weights are float32. A `TextEmbedder` becomes a folder that
    sentence-transformers loads. Tokenizer files are written where the model has a preprocessor.

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
    family, keys = hugging_face_family(encoder, model_type)
    config = encoder.get_config()
    architecture, prefix, weights = family.architecture, "", []
    if task not in (None, "embed"):
        architecture, head_keys, weights = _head(family, config, task, model)
        keys, prefix = {**keys, **head_keys}, family.prefix
    weights = family.encoder_weights(config, prefix) + weights
    tensors = collect_tensors(model, weights)
    if family.written_tensors is not None:
        stored = family.written_tensors(config)
        tensors |= {prefix + name: value for name, value in stored.items()}
    about = {"architectures": [architecture], "model_type": family.model_type, "dtype": "float32"}
    with files.staging(folder) as stage:
        new = stage / "new"
        new.mkdir()
        _write(new, {**about, **keys}, tensors)
        if task == "embed":
            write_modules(new, model)
        if getattr(model, "preprocessor", None) is not None:
            write_tokenizer(new, model.preprocessor)
        files.place_all([(new, folder)])


def _write(folder, config, tensors):
    from safetensors.numpy import save_file

    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    # transformers reads no file that does not say whose layout it has.
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _head(family, config, task, model):
    """(architecture, config keys, table) of the first head that says what the task computes."""
    arguments, reasons = model.get_config(), []
    for architecture, head in family.heads.items():
        if head.task != task:
            continue
        try:
            keys = head.config_keys(config, arguments)
        except (KeyError, TypeError, ValueError) as error:
            reasons.append(f"{architecture}: {error}")
            continue
        reader = ConfigReader({**family.config_keys(config), **keys}, family.ignored_keys)
        back = head.arguments(reader, config)
        wrong = [
            f"`{k}` is {arguments[k]!r}, not {v!r}" for k, v in back.items() if arguments[k] != v
        ]
        if not wrong:
            return architecture, keys, head.weights(config, arguments)
        reasons += [f"{architecture}: {reason}" for reason in wrong]
    raise ValueError(
        f"The family {family.model_type!r} has no head that says exactly what this "
        f"{type(model).__name__} computes: {'; '.join(reasons) or 'it has none for this task'}."
    )
