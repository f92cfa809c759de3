"""KerasHub's WordPiece preprocessor with the settings of a Hugging Face tokenizer."""

import pathlib

from keras_hub import models as hub

from keras_addnorm.models import TextEmbedderPreprocessor
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.sources import read_object

TOKENIZER_CLASSES = (None, "BertTokenizer", "BertTokenizerFast")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_VOCABULARY_BYTES = 256 * 2**20


def _vocabulary(folder, size):
    path = pathlib.Path(folder) / "vocab.txt"
    if not path.is_file():
        raise CheckpointError(folder, ["there is no vocab.txt, so text cannot be tokenized"])
    if path.stat().st_size > MAX_VOCABULARY_BYTES:
        raise CheckpointError(folder, [f"vocab.txt is larger than {MAX_VOCABULARY_BYTES} bytes"])
    try:
        with open(path, encoding="utf-8") as lines:
            vocabulary = [line.rstrip("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise CheckpointError(folder, [f"vocab.txt is not UTF-8: {error}"]) from error
    problems = [f"vocab.txt has no {t}" for t in SPECIAL_TOKENS if t not in vocabulary]
    if len(set(vocabulary)) < len(vocabulary):
        problems.append("vocab.txt holds a token twice")
    if len(vocabulary) > size:
        problems.append(f"vocab.txt has {len(vocabulary)} tokens, the embedding only {size} rows")
    if problems:
        raise CheckpointError(folder, problems)
    return vocabulary


def word_piece_preprocessor(folder, encoder_config):
    """Builds the `TextEmbedderPreprocessor` of a BERT checkpoint.

    Args:
        folder: the checkpoint, with `vocab.txt` and, where they exist, `tokenizer_config.json`
            and sentence-transformers' `sentence_bert_config.json`.
        encoder_config: the encoder's arguments.

    Raises:
        CheckpointError: if the vocabulary is missing, or a setting cannot be honoured.
    """
    config = read_object(folder, "tokenizer_config.json")
    sentence = read_object(folder, "sentence_bert_config.json")
    problems = []
    if config.get("tokenizer_class") not in TOKENIZER_CLASSES:
        problems.append(f"tokenizer class {config['tokenizer_class']!r} is not supported")
    if config.get("tokenize_chinese_chars", True) is not True:
        problems.append("tokenizer setting tokenize_chinese_chars is supported only as true")
    lowercase = config.get("do_lower_case", True)
    accents = config.get("strip_accents")
    accents = lowercase if accents is None else accents
    if sentence.get("do_lower_case") and not lowercase:
        problems.append("sentence_bert_config.json lowercases, but the tokenizer is cased")
    for name, value in (("do_lower_case", lowercase), ("strip_accents", accents)):
        if not isinstance(value, bool):
            problems.append(f"tokenizer setting {name} must be true, false or null, got {value!r}")
    limit = encoder_config["max_sequence_length"]
    length = sentence.get("max_seq_length")
    if not length:  # As sentence-transformers does; "no limit" is written as a huge number.
        length = min(limit, config.get("model_max_length") or limit)
    if isinstance(length, bool) or not isinstance(length, int) or not 2 < length <= limit:
        problems.append(f"max_seq_length must be from 3 to {limit}, got {length!r}")
    if problems:
        raise CheckpointError(folder, problems)
    tokenizer = hub.BertTokenizer(
        _vocabulary(folder, encoder_config["vocabulary_size"]),
        lowercase=lowercase,
        strip_accents=accents,
    )
    return TextEmbedderPreprocessor(tokenizer, sequence_length=length)
