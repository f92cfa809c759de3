"""The page's tokenizer, run by node, gives the ids of Hugging Face's `tokenizers`."""

import copy
import json
import pathlib
import random
import shutil
import subprocess

import pytest
from tokenizers import Tokenizer

from keras_addnorm import zoo

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = pathlib.Path(__file__).with_name("web") / "tokenize.mjs"
TOKENIZER = ROOT / "examples" / "web" / "tokenizer.js"
CORPUS = (ROOT / "tests" / "zoo" / "data" / "corpus.txt").read_text("utf-8").splitlines()
SENTENCES = (ROOT / "examples" / "data" / "sentences.txt").read_text("utf-8").splitlines()
HARD = [
    "",
    " ",
    "\n\t\r\x0b\x0c\x85\xa0\u2028\u3000",
    "Crème brûlée à l'été, ÀÉÎÕÜ ñ ß İI ΣΑΣ ﬁ Ǆ ộ o\u0302\u0323 o\u0323\u0302",
    "日本語と漢字、한국어 각 \U00020000\U0002b820\U0002b920",
    "emoji 😀👩‍👩‍👧‍👦🏳️‍🌈❤️ 1️⃣",
    "a\u200bb\u200dc\ufeffd\u00ade\x00f\ufffdg\x7fh\x1bi",
    "[CLS] [SEP][MASK]s [mask] [UNK] [PAD]",
    "x[MASK]y  [MASK]  z [MAS[MASK]",
    "don't U.S.A. $5 a+b=c `code` ~x~ ^y|z <tag> 3.14 e-mail@example.org",
    "supercalifragilisticexpialidocious " + "a" * 100 + " " + "b" * 101 + " " + "é" * 101,
    "\U0001d400\U0001d401 \U0001e900 \U00010400 \ue000 \U000f0000 \u0378",
    "a\u0315\u0300\u05ae\u0898\u302eb \U00016d68 \U000105c9 \u302e\U00010d24\u0316",
    "word " * 400,
]


def random_texts(number, seed=0):
    """Texts of characters of all of Unicode, of which many are those that tokenizers look at."""
    rng = random.Random(seed)
    near = "aàÉ ßİ.,-'\u0301\u0323\u200d\t[MASK]#漢字가😀İΣ[SEP]\x00\ufffd"

    def character():
        kind = rng.random()
        if kind < 0.5:
            return rng.choice(near)
        top = 0x250 if kind < 0.65 else 0x3100 if kind < 0.85 else 0x110000
        code = rng.randrange(top)
        return "x" if 0xD800 <= code < 0xE000 else chr(code)

    return ["".join(character() for _ in range(rng.randrange(1, 40))) for _ in range(number)]


def every_character():
    """Each character of Unicode once, alone, between letters, and before an accent."""
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    chunks = [map(chr, codes[at : at + 500]) for at in range(0, len(codes), 500)]
    return [" ".join(f"{c} a{c}b {c}\u0301" for c in chunk) for chunk in chunks]


def changed(settings, **parts):
    """A copy of a tokenizer.json with other options, a dict of them a part."""
    settings = copy.deepcopy(settings)
    for part, options in parts.items():
        settings[part] = options and {**settings[part], **options}
    return settings


def added(content, id, **options):
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": id, "content": content, **{f: options.get(f, False) for f in flags}}


@pytest.fixture(scope="module")
def settings():
    preprocessor = zoo.from_hugging_face("minilm", task="embed").preprocessor
    settings = json.loads(preprocessor.tokenizer.to_json())
    return {**settings, "padding": None, "truncation": None}


def node_ids(settings, texts, max_length=None):
    assert shutil.which("node"), "node is not installed: apt-get install nodejs"
    request = {"settings": settings, "texts": texts, "maxLength": max_length}
    run = subprocess.run(
        ["node", WORKER, TOKENIZER],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def check(settings, texts, max_length=None):
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    if max_length is not None:
        tokenizer.enable_truncation(max_length)
    received = node_ids(settings, texts, max_length)
    expected = [e.ids for e in tokenizer.encode_batch(texts)]
    different = [t for t, a, b in zip(texts, expected, received, strict=True) if a != b]
    assert different == []


def test_real_and_hard_texts(settings):
    texts = SENTENCES + CORPUS + HARD
    check(settings, texts)
    for length in (2, 3, 16, 128):
        check(settings, texts, length)


def test_random_texts(settings):
    check(settings, random_texts(5000))


VARIANTS = {
    "cased": {"normalizer": {"lowercase": False}},
    "accents kept": {"normalizer": {"strip_accents": False}},
    "cased without accents": {"normalizer": {"lowercase": False, "strip_accents": True}},
    "Chinese in words": {"normalizer": {"handle_chinese_chars": False}},
    "not cleaned": {"normalizer": {"clean_text": False}},
    "no normalizer": {"normalizer": None},
    "short words": {"model": {"max_input_chars_per_word": 4}},
    "no special tokens": {"post_processor": None},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(settings, name):
    check(changed(settings, **VARIANTS[name]), HARD + CORPUS + random_texts(1000, seed=1))


@pytest.mark.parametrize("name", [None, "cased", "cased without accents", "no normalizer"])
def test_every_character(settings, name):
    # A vocabulary of single characters would be large: words that stay apart show by their number.
    check(changed(settings, **VARIANTS.get(name, {})), every_character())


def test_bert_processing(settings):
    processor = {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}
    check({**settings, "post_processor": processor}, HARD)


def test_added_tokens(settings):
    tokens = [
        added("<e>", 30522, lstrip=True),
        added("<e>x", 30523, rstrip=True),
        added("cat", 4937, single_word=True),
        added("Élan", 30524, normalized=True),
        added("a.b(c", 30525, normalized=True, single_word=True),
    ]
    known = {**settings, "added_tokens": settings["added_tokens"] + tokens}
    texts = [
        *("a <e> b", "a  <e>x  b<e>", "cat concat cat. cats _cat cat-cat écat", "<e> <e>x <e>"),
        *("Élan ELAN elan éLAN, xélan", "a.b(c A.B(C xa.b(c", "[MASK]cat <e>cat"),
    ]
    rng = random.Random(2)
    pieces = ["<e>", "<e>x", "cat", "Élan", "elan", "a.b(c", " ", "  ", "\u3000", "x", "é", "."]
    texts += ["".join(rng.choices(pieces, k=12)) for _ in range(2000)]
    check(known, texts)


@pytest.mark.parametrize(
    "part, value",
    [
        ("model", {"type": "BPE"}),
        ("normalizer", {"type": "NFKC"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("post_processor", {"type": "RobertaProcessing"}),
    ],
)
def test_other_kinds_are_refused(settings, part, value):
    with pytest.raises(AssertionError, match=f"{part} must be .* Received: {value['type']}"):
        node_ids(changed(settings, **{part: value}), ["a"])


def test_too_short_a_length_is_refused(settings):
    with pytest.raises(AssertionError, match="room for 2 special tokens. Received: 1"):
        node_ids(settings, ["a"], 1)
