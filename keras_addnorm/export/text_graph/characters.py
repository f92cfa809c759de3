"""What a tokenizer's normalizer and pre-tokenizer do to each code point, as tables."""

import dataclasses
import functools

import numpy as np

CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)  # in no text
PAGE = 256

# What a table holds beside numbers of characters, which count from 1; 0 is a character that is in
# no token. A character that is a word of its own has ALONE added.
NOTHING, SPACE, ALONE = -1, -2, 1 << 24


def normalized(normalizer):
    """What each code point becomes, as a dict of those that change."""
    return _normalized(bytes(normalizer.__getstate__()))


@functools.lru_cache(maxsize=4)
def _normalized(state):
    normalizer = _restored("normalizers", "BertNormalizer", state)
    changes = {}
    for code in range(CODE_POINTS):
        if code not in SURROGATES:
            before = chr(code)
            after = normalizer.normalize_str(before)
            if after != before:
                changes[code] = after
    return changes


@functools.lru_cache(maxsize=1)
def word_kinds():
    """`(spaces, alone)`: the code points that part words, and those that are words, as sets."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    codes = [code for code in range(CODE_POINTS) if code not in SURROGATES]
    text = "a" + "a".join(map(chr, codes)) + "a"
    pieces = BertPreTokenizer().pre_tokenize_str(text)
    covered = np.zeros(len(text), bool)
    alone = set()
    for piece, (start, end) in pieces:
        covered[start:end] = True
        if end - start == 1 and start % 2:
            alone.add(ord(piece))
    return {code for code, seen in zip(codes, covered[1::2], strict=True) if not seen}, alone


def _restored(module, name, state):
    import tokenizers

    part = getattr(getattr(tokenizers, module), name)()
    part.__setstate__(state)
    return part


@dataclasses.dataclass(frozen=True)
class CharacterTable:
    """Code points to numbers of characters.

    Attributes:
        pages: int32 `(pages, PAGE, most characters that one becomes)`, with NOTHING behind.
        page_of: int32 `(code points / PAGE,)`.
    """

    pages: np.ndarray
    page_of: np.ndarray


def character_table(normalizer, numbers):
    """The table of a normalizer and BERT's pre-tokenizer.

    Args:
        normalizer: a `tokenizers.normalizers.BertNormalizer`.
        numbers: dict of numbers from 1 on by character, of those that are in tokens.

    Returns:
        A `CharacterTable`.
    """
    changes = normalized(normalizer)
    spaces, alone = word_kinds()
    width = max(map(len, changes.values()), default=1)
    kinds = np.zeros(CODE_POINTS, "int32")
    kinds[list(alone)] = ALONE
    for character, number in numbers.items():
        kinds[ord(character)] += number
    kinds[list(spaces)] = SPACE
    table = np.full((CODE_POINTS, width), NOTHING, "int32")
    table[:, 0] = kinds
    for code, text in changes.items():
        table[code] = NOTHING
        table[code, : len(text)] = [kinds[ord(character)] for character in text]
    pages, page_of = {}, []
    for page in table.reshape(-1, PAGE, width):  # Most are the same as another one.
        index, _ = pages.setdefault(page.tobytes(), (len(pages), page))
        page_of.append(index)
    return CharacterTable(
        np.stack([page for _, page in pages.values()]), np.array(page_of, "int32")
    )
