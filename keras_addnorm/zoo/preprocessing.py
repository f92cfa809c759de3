"""The preprocessor of a task, made from a checkpoint's files, and back."""

import json

from keras_addnorm.models import ImageClassifierPreprocessor
from keras_addnorm.models.text_preprocessor import TextPreprocessor
from keras_addnorm.models.tokenizer import ROLES
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.image_processing import image_preprocessor_of, write_image_processor
from keras_addnorm.zoo.sources import read_object
from keras_addnorm.zoo.tasks import task_class
from keras_addnorm.zoo.tokenizers import tokenizer_of


def preprocessor_of(folder, task, encoder_config):
    """The preprocessor that a task's class takes.

    Args:
        folder: the checkpoint.
        task: a key of `TASKS`.
        encoder_config: the encoder's arguments, of which `vocabulary_size` and
            `max_sequence_length` bound a text preprocessor's.

    Raises:
        CheckpointError: if a file is missing or broken, or a setting cannot be honoured.
    """
    cls = task_class(task).preprocessor_cls
    if issubclass(cls, TextPreprocessor):
        return _text_preprocessor(folder, cls, encoder_config)
    return image_preprocessor_of(folder, encoder_config)


def _text_preprocessor(folder, cls, encoder_config):
    problems, length, tokenizer = [], None, None
    try:
        length = sequence_length_of(folder, encoder_config["max_sequence_length"])
    except CheckpointError as error:
        problems += error.problems
    try:
        tokenizer = tokenizer_of(folder, encoder_config["vocabulary_size"])
        problems += _lowercasing_problems(folder, tokenizer)
    except CheckpointError as error:
        problems += error.problems
    if problems:
        raise CheckpointError(folder, problems)
    return cls(tokenizer, sequence_length=length)


def _lowercasing_problems(folder, tokenizer):
    """sentence-transformers can lowercase texts itself, before a tokenizer that does so too."""
    if not read_object(folder, "sentence_bert_config.json").get("do_lower_case"):
        return []
    normalizer = tokenizer.tokenizer.normalizer
    if normalizer is not None and normalizer.normalize_str("A") == "a":
        return []
    return ["sentence_bert_config.json lowercases, but the tokenizer is cased"]


def sequence_length_of(folder, limit):
    """How many tokens texts are cut to, as sentence-transformers and transformers would.

    Args:
        folder: the checkpoint, with sentence_bert_config.json or tokenizer_config.json.
        limit: int, the longest sequence that the encoder takes.

    Raises:
        CheckpointError: if the files name a length that the encoder does not take.
    """
    length = read_object(folder, "sentence_bert_config.json").get("max_seq_length")
    if not length:  # As sentence-transformers does; "no limit" is written as a huge number.
        length = read_object(folder, "tokenizer_config.json").get("model_max_length") or limit
        length = min(limit, length) if isinstance(length, (int, float)) else length
    if isinstance(length, bool) or not isinstance(length, int) or not 2 < length <= limit:
        raise CheckpointError(folder, [f"max_seq_length must be from 3 to {limit}, got {length!r}"])
    return length


def write_preprocessor(folder, preprocessor):
    """Writes the files that make transformers do what a preprocessor does.

    Raises:
        ValueError: if it is not one of this package.
    """
    if isinstance(preprocessor, TextPreprocessor):
        _write_tokenizer(folder, preprocessor)
    elif isinstance(preprocessor, ImageClassifierPreprocessor):
        write_image_processor(folder, preprocessor.image_converter)
    else:
        raise ValueError(
            "Only preprocessors of keras_addnorm can be written for transformers. "
            f"Received: an object of type {type(preprocessor).__name__}. Set the model's "
            "`preprocessor` to None to write the model alone."
        )


def _write_tokenizer(folder, preprocessor):
    tokenizer = preprocessor.tokenizer
    tokenizer.save_assets(folder)
    tokens = {role: getattr(tokenizer, role) for role in ROLES}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # The class that reads tokenizer.json as is.
        "model_max_length": preprocessor.sequence_length,
        **{role: token for role, token in tokens.items() if token is not None},
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
