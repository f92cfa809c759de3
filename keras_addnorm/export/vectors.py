"""Texts whose token ids travel with a bundle, so that a tokenizer written anew can check itself."""

from keras_addnorm.export.samples import SENTENCES

# What tokenizers disagree on: each line is one rule that somebody's port got wrong.
TEXTS = (
    "",
    " ",
    "   leading, trailing and   inner spaces  ",
    "tabs\tand\r\nline\nbreaks",
    # Accents: composed, decomposed, two marks on a letter, letters that only look accented.
    "Crème brûlée à la façon de Zoë, naïve café déjà vu",
    "Cre\u0300me bru\u0302le\u0301e, a\u0323\u0302",
    "Ångström, Łódź, Straße, Ærøskøbing, ĲSSELMEER, İstanbul",
    # Scripts: some without spaces, some with marks that are no accents.
    "我爱北京天安门，2024年。",
    "日本語のテキスト、カタカナとひらがな ﾊﾝｶｸ",
    "한국어 문장입니다. 각",
    "混ぜたmixed文字ABC列",
    "𠀀𪚥 of plane two, 豈 compatibility",
    "Привет, мир! Ёлка",
    "Καλημέρα κόσμε, ΟΔΟΣ",
    "مرحبا بالعالم، ١٢٣",
    "שָׁלוֹם עוֹלָם",
    "नमस्ते दुनिया, किताब",
    "สวัสดีชาวโลก",
    # Emoji: plain, with a skin tone, joined, a flag, a keycap, a variation selector.
    "great 👍 👍🏽 👩‍👩‍👧 🇫🇷 1️⃣ ❤️ 😀😀",
    # Control and format characters, private use, what is no character.
    "null\x00 bell\x07 escape\x1b[0m delete\x7f nel\x85 end",
    "soft\u00adhyphen zero\u200bwidth non\u200cjoiner join\u200der mark\u200e word\u2060joiner",
    "\ufeffbyte order mark",
    "private \ue000 noncharacter \ufdd0 replacement \ufffd plane 16 \U0010ffff",
    # Spaces that are not U+0020, and separators.
    "no\u00a0break thin\u2009space ideographic\u3000space line\u2028separator paragraph\u2029end",
    # Punctuation and symbols, of ASCII and not.
    "don't stop-it, (really) [no] {yes} <tag> \\path\\to_file ^caret `tick` ~ |",
    "“quotes” ‘single’ … – — « » ¿qué? ¡olé! § ¶ •",
    "$5.00 €6 £7 + 8 = 9 × 10 ÷ 11 ½ ² ℃ ™ ∑ ≤ → ☃",
    "e-mail a.b@c.org, https://example.org/a?b=c&d=%20#e",
    "3.14159 1,000,000 1e-12 0xFF 12:30 20-50% v2.0.1",
    # Special tokens in literal form, of several families, and near misses.
    "[CLS] [SEP] [PAD] [MASK] [UNK] [cls] [ SEP ] a[MASK]b",
    "<s> </s> <pad> <mask> <unk> <|endoftext|> ##ing ▁low Ġhigh",
    # Long: one word beyond the length at which WordPiece gives up, and repetition.
    "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "a" * 99 + " " + "b" * 101 + " " + "é" * 101,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!!!!!!!!!!!!!!!!!!!!!!!!?????",
    "camelCase PascalCase snake_case SHOUTING ﬁne ligature ＦＵＬＬｗｉｄｔｈ",
)
MAX_REPEATS = 4096


def make_vectors(preprocessor, max_length):
    """Texts and their ids, from a model's own tokenizer.

    Args:
        preprocessor: a preprocessor of `keras_addnorm.models`.
        max_length: int, tokens that longer texts are cut to, special ones included.

    Returns:
        Dict of `max_length` and `cases`, a list of dicts of a `text` and its `ids`.
    """
    # A word of any vocabulary is a token at least, so this one is cut.
    long = "A cat sits on the mat. " * min(max_length // 4 + 1, MAX_REPEATS)
    texts = [*SENTENCES, *TEXTS, long]
    encodings = preprocessor.encode(texts, length=max_length)
    cases = [{"text": t, "ids": e.ids} for t, e in zip(texts, encodings, strict=True)]
    return {"max_length": max_length, "cases": cases}
