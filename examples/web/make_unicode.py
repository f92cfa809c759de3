"""Writes unicode.js: what `tokenizers` takes for control characters, punctuation and accents.

    python examples/web/make_unicode.py

Its tables are of several older versions of Unicode, browsers have newer ones. Wants node.
"""

import pathlib
import subprocess

from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

HEAD = """\
// Written by make_unicode.py: character classes as `tokenizers` {version} has them.
"""
LINES = {
    "REMOVED": "left out by clean_text",
    "PUNCTUATION": "words of their own",
    "MARK": "left out by strip_accents",
    "BLOCKING": "newer than the decomposition: as they are, and nothing moves past them",
}
# Characters that canonical ordering moves, or that decompose, in the Unicode of node.
MOVED = """
const found = [];
for (let c = 0; c < 0x110000; c++) {
  if (c >= 0xd800 && c < 0xe000) continue;
  const s = String.fromCodePoint(c);
  const moves = (t) => t.normalize("NFD") !== t;
  if (moves(s) || moves(`a${s}\\u0334`) || moves(`a\\u0345${s}`)) found.push(c);
}
console.log(found.join(" "));
"""


def characters():
    """Every character of Unicode."""
    return [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def normalizer(**options):
    """A BertNormalizer that does only what is asked for."""
    names = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    return BertNormalizer(**{name: options.get(name, False) for name in names}).normalize_str


def blocking():
    """What node's Unicode decomposes or moves, and that of `tokenizers` does not."""
    nfd = NFD().normalize_str
    listed = subprocess.run(["node", "-e", MOVED], check=True, capture_output=True, text=True)
    moved = [chr(int(c)) for c in listed.stdout.split()]
    probes = ("{}", "a{}\u0334", "a\u0345{}")
    return [c for c in moved if all(nfd(p.format(c)) == p.format(c) for p in probes)]


def ranges(chars):
    """The inside of a character class."""
    found = []
    for code in map(ord, chars):
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    ends = [sorted({first, last}) for first, last in found]
    return "".join("-".join(f"\\\\u{{{code:x}}}" for code in pair) for pair in ends)


def main():
    """Writes the file beside this one."""
    import tokenizers

    clean, strip = normalizer(clean_text=True), normalizer(strip_accents=True)
    words = BertPreTokenizer().pre_tokenize_str
    found = {
        "REMOVED": [c for c in characters() if not clean(c)],
        "PUNCTUATION": [c for c in characters() if len(words(f"a{c}b")) == 3],
        "MARK": [c for c in characters() if not strip(c)],
        "BLOCKING": blocking(),
    }
    text = HEAD.format(version=tokenizers.__version__)
    for name, chars in found.items():
        text += f'\n/** {LINES[name]} */\nexport const {name} =\n  "{ranges(chars)}";\n'
    pathlib.Path(__file__).with_name("unicode.js").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
