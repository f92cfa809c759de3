"""The preprocessor of a task, made from a checkpoint's tokenizer files."""

from keras_addnorm.zoo.word_piece import word_piece_preprocessor


def preprocessor_of(folder, task, encoder_config):
    """The preprocessor that a task's class takes; see `word_piece`."""
    return word_piece_preprocessor(folder, encoder_config) if task == "embed" else None


def write_tokenizer(folder, preprocessor):
    """Writes the files that make transformers load the preprocessor's tokenizer."""
    tokenizer = preprocessor.tokenizer
    (folder / "vocab.txt").write_text(
        "".join(f"{token}\n" for token in tokenizer.get_vocabulary()), encoding="utf-8"
    )
