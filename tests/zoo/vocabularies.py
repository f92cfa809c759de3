"""Tiny vocabulary files of every kind, trained on the corpus of hard texts."""

import io
import json
import pathlib

from tests.zoo.common import DATA

# A JSON string a line, so that invisible characters show as escapes.
CORPUS = [
    json.loads(line)
    for line in (DATA / "corpus.txt").read_text(encoding="utf-8").split("\n")
    if line
]
SENTENCES = pathlib.Path(__file__).parents[2] / "examples" / "data" / "sentences.txt"
TEXTS = [*CORPUS, *SENTENCES.read_text(encoding="utf-8").splitlines()]

RESIDUES = "L A G V S E R T I D P K Q N F Y M H W C X B U Z O . -".split()
# SentencePiece's own special tokens, as the families trained it.
SENTENCE_PIECE = {
    "albert": {
        "file": "spiece.model",
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": -1,
        "eos_id": -1,
        "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
    },
    "xlm-roberta": {"file": "sentencepiece.bpe.model", "unk_id": 0, "bos_id": 1, "eos_id": 2},
    "deberta-v2": {
        "file": "spm.model",
        "pad_id": 0,
        "pad_piece": "[PAD]",
        "bos_id": 1,
        "bos_piece": "[CLS]",
        "eos_id": 2,
        "eos_piece": "[SEP]",
        "unk_id": 3,
        "unk_piece": "[UNK]",
    },
}


def write(folder, model_type, **settings):
    """Writes the vocabulary files of a model type, config.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if model_type in SENTENCE_PIECE:
        _sentence_piece(folder, **SENTENCE_PIECE[model_type])
    elif model_type == "roberta":
        _byte_level(folder)
    elif model_type == "esm":
        tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *RESIDUES, "<null_1>", "<mask>"]
        (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    else:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        if model_type == "mpnet":
            special = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]
        _word_piece(folder, special, lowercase=settings.get("do_lower_case", True))
    return folder


def _word_piece(folder, special, **options):
    from tokenizers import BertWordPieceTokenizer

    trainer = BertWordPieceTokenizer(**options)
    trainer.train_from_iterator(TEXTS, vocab_size=900, special_tokens=special, show_progress=False)
    trainer.save_model(str(folder))


def _byte_level(folder):
    from tokenizers import ByteLevelBPETokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(TEXTS, vocab_size=600, special_tokens=special, show_progress=False)
    trainer.save_model(str(folder))


def _sentence_piece(folder, file, **options):
    import sentencepiece

    lines = [text for text in TEXTS if len(text) < 200 and "\0" not in text]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=800,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    (folder / file).write_bytes(model.getvalue())


def save_json(folder, tokenizer):
    """Writes a `tokenizers.Tokenizer` as tokenizer.json, with a token for padding."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    return folder
