"""Tokenizers made from vocabulary files, for checkpoints that come without a tokenizer.json.

One entry of `KINDS` for each tokenizer class of transformers. What they build is what transformers'
own converters build, which for SentencePiece models gives the ids of the `sentencepiece` library.
"""

import dataclasses
import pathlib
from collections.abc import Callable

from keras_addnorm.zoo.errors import CheckpointError

MAX_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a tokenizer class of transformers is made from its files.

    Attributes:
        files: names of the files.
        build: `(folder, settings, tokens) -> tokenizers.Tokenizer`, without special tokens.
        tokens: the special tokens by role, where the checkpoint does not name others.
        single, pair: the template of a text and of a pair, with roles for special tokens.
        settings: keys of tokenizer_config.json that are honoured, and their defaults.
    """

    files: tuple
    build: Callable
    tokens: dict
    single: str
    pair: str
    settings: dict = dataclasses.field(default_factory=dict)


def read_bytes(folder, name):
    """The content of a file that is there and not too large."""
    path = pathlib.Path(folder) / name
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(folder, [f"{name} is larger than {MAX_BYTES} bytes"])
    return path.read_bytes()


def read_text(folder, name):
    """The text of a file in UTF-8."""
    try:
        return read_bytes(folder, name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(folder, [f"{name} is not UTF-8: {error}"]) from error


def _vocabulary(folder):
    """The ids of vocab.txt, a token a line."""
    lines = read_text(folder, "vocab.txt").replace("\r\n", "\n").replace("\r", "\n")
    tokens = lines.removesuffix("\n").split("\n")
    if len(set(tokens)) < len(tokens):
        raise CheckpointError(folder, ["vocab.txt holds a token twice"])
    return {token: id for id, token in enumerate(tokens)}


def _word_piece(folder, settings, tokens):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    model = models.WordPiece(_vocabulary(folder), unk_token=tokens["unk_token"])
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings["tokenize_chinese_chars"],
        strip_accents=settings["strip_accents"],
        lowercase=settings["do_lower_case"],
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _residues(folder, settings, tokens):
    """ESM: every entry of vocab.txt is a token wherever it stands; what is left is unknown."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    vocabulary = _vocabulary(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=tokens["unk_token"]))
    spaces = Regex(r"[\s\x1c-\x1f]+")  # what `str.split` splits at
    tokenizer.pre_tokenizer = pre_tokenizers.Split(spaces, "removed")
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in vocabulary])
    return tokenizer


def _byte_level(folder, settings, tokens):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    for name in ("vocab.json", "merges.txt"):
        read_text(folder, name)
    paths = [str(pathlib.Path(folder) / name) for name in ("vocab.json", "merges.txt")]
    vocabulary, merges = models.BPE.read_file(*paths)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    prefix = settings["add_prefix_space"]
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_piece(folder, name, before, arrange, split=True):
    """A Unigram model of SentencePiece.

    Args:
        folder, name: where the file is.
        before: list of normalizers that come before the file's own.
        arrange: `([(piece, score)], unk_id) -> ([(piece, score)], unk_id)`, the family's order.
        split: bool, whether text is split at Unicode's spaces, as in the tokenizer.json that the
            family is published with; SentencePiece splits at those of its own rules.
    """
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers.pre_tokenizers import Metaspace, Sequence, WhitespaceSplit

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(read_bytes(folder, name))
    trainer, rules = proto.trainer_spec, proto.normalizer_spec
    plain = rules.add_dummy_prefix and rules.remove_extra_whitespaces and rules.escape_whitespaces
    if trainer.model_type != trainer.UNIGRAM or trainer.byte_fallback or not plain:
        raise CheckpointError(
            folder,
            [
                f"{name} is not a Unigram model with SentencePiece's default treatment of spaces, "
                "so its tokenizer.json is needed"
            ],
        )
    pieces, unk_id = arrange([(p.piece, p.score) for p in proto.pieces], trainer.unk_id)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unk_id, byte_fallback=False))
    if rules.precompiled_charsmap:
        before = [*before, normalizers.Precompiled(rules.precompiled_charsmap)]
    spaces = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence([*before, *spaces])
    mark = Metaspace(prepend_scheme="always")
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), mark]) if split else mark
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    added = [p for p in proto.pieces if p.type in (p.CONTROL, p.USER_DEFINED)]
    names = {piece for piece, _ in pieces}
    tokenizer.add_tokens(
        [
            AddedToken(p.piece, normalized=False, special=p.type == p.CONTROL)
            for p in added
            if p.piece in names
        ]
    )
    return tokenizer


def _albert(folder, settings, tokens):
    from tokenizers import normalizers

    before = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings["keep_accents"]:
        before += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings["do_lower_case"]:
        before.append(normalizers.Lowercase())

    def arrange(pieces, unk_id):
        # ALBERT splits a comma off a digit, as in "9,": such pieces must never be chosen.
        late = [p[-2:-1].isdigit() and p.endswith(",") for p, _ in pieces]
        return [(p, s - 100 * x) for (p, s), x in zip(pieces, late, strict=True)], unk_id

    return _sentence_piece(folder, "spiece.model", before, arrange)


def _xlm_roberta(folder, settings, tokens):
    def arrange(pieces, unk_id):
        # fairseq's order of the special tokens in place of SentencePiece's <unk>, <s>, </s>.
        special = [(tokens[f"{role}_token"], 0.0) for role in ("bos", "pad", "eos", "unk")]
        return [*special, *pieces[3:], (tokens["mask_token"], 0.0)], 3

    return _sentence_piece(folder, "sentencepiece.bpe.model", [], arrange)


def _deberta(folder, settings, tokens):
    from tokenizers import normalizers

    before = [normalizers.Lowercase()] if settings["do_lower_case"] else []
    return _sentence_piece(folder, "spm.model", before, lambda *order: order, split=False)


def _tokens(pad, unk, cls, sep, mask, bos=None, eos=None):
    roles = {"pad": pad, "unk": unk, "cls": cls, "sep": sep, "mask": mask, "bos": bos, "eos": eos}
    return {f"{role}_token": token for role, token in roles.items() if token}


_BERT_TOKENS = _tokens("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_TOKENS = _tokens("<pad>", "<unk>", "<s>", "</s>", "<mask>", "<s>", "</s>")
_BERT = ("cls:0 $A:0 sep:0", "cls:0 $A:0 sep:0 $B:1 sep:1")
_ROBERTA = ("cls:0 $A:0 sep:0", "cls:0 $A:0 sep:0 sep:0 $B:0 sep:0")
_WORD_PIECE = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}

KINDS = {
    "BertTokenizer": Kind(("vocab.txt",), _word_piece, _BERT_TOKENS, *_BERT, _WORD_PIECE),
    "MPNetTokenizer": Kind(
        ("vocab.txt",),
        _word_piece,
        {**_ROBERTA_TOKENS, "unk_token": "[UNK]"},
        *_ROBERTA,
        _WORD_PIECE,
    ),
    "EsmTokenizer": Kind(
        ("vocab.txt",),
        _residues,
        _tokens("<pad>", "<unk>", "<cls>", None, "<mask>", eos="<eos>"),
        "cls:0 $A:0 eos:0",
        "cls:0 $A:0 eos:0 $B:0 eos:0",
    ),
    "RobertaTokenizer": Kind(
        ("vocab.json", "merges.txt"),
        _byte_level,
        _ROBERTA_TOKENS,
        *_ROBERTA,
        {"add_prefix_space": False},
    ),
    "XLMRobertaTokenizer": Kind(
        ("sentencepiece.bpe.model",), _xlm_roberta, _ROBERTA_TOKENS, *_ROBERTA
    ),
    "AlbertTokenizer": Kind(
        ("spiece.model",),
        _albert,
        _tokens("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "[CLS]", "[SEP]"),
        *_BERT,
        {"do_lower_case": True, "keep_accents": False},
    ),
    "DebertaV2Tokenizer": Kind(
        ("spm.model",),
        _deberta,
        {**_BERT_TOKENS, "bos_token": "[CLS]", "eos_token": "[SEP]"},
        *_BERT,
        {"do_lower_case": False},
    ),
}
for _same in ("DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"):
    KINDS[_same] = KINDS["BertTokenizer"]

# The class where tokenizer_config.json names none, by the model type of config.json.
CLASSES = {
    "bert": "BertTokenizer",
    "nomic_bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "esm": "EsmTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "albert": "AlbertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
}


def add_template(tokenizer, kind, tokens):
    """Gives a tokenizer the special tokens that its kind puts around texts."""
    from tokenizers import processors

    def fill(template):
        parts = (part.split(":") for part in template.split())
        return [f"{tokens.get(f'{name}_token', name)}:{segment}" for name, segment in parts]

    special = {
        tokens[f"{role}_token"] for role in ("cls", "sep", "eos") if f"{role}_token" in tokens
    }
    tokenizer.post_processor = processors.TemplateProcessing(
        single=fill(kind.single),
        pair=fill(kind.pair),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in sorted(special)],
    )
