"""Writes UnicodeTables.kt and UnicodeTables.swift: character classes as `tokenizers` has them.

    python examples/android/make_unicode.py

Its tables are of several versions of Unicode, phones have others; so the sources bring their own.
"""

import pathlib

EXAMPLES = pathlib.Path(__file__).parents[1]
KOTLIN = EXAMPLES / "android" / "src" / "main" / "kotlin" / "textbundle" / "UnicodeTables.kt"
SWIFT = EXAMPLES / "ios" / "Sources" / "TextBundle" / "UnicodeTables.swift"
NOTE = (
    "// Written by examples/android/make_unicode.py from the tables of Hugging Face's tokenizers.\n"
)
KINDS = {
    "removed": "Characters that BERT's clean-up leaves out.",
    "punctuation": "Characters that are words of their own.",
    "marks": "Marks that are left out after canonical decomposition.",
}


def sets():
    """The characters of each class, as sorted code points."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    off = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and chr(c) != "|"]
    between = "".join(f"{chr(c)}|" for c in codes)

    def emptied(**options):
        left = BertNormalizer(**{**off, **options}).normalize_str(between).split("|")[:-1]
        return [c for c, text in zip(codes, left, strict=True) if not text]

    codes.append(ord("|"))
    words = BertPreTokenizer().pre_tokenize_str("".join(f"x{chr(c)}y " for c in codes))
    alone = {start for _, (start, end) in words if end == start + 1}
    punctuation = [c for i, c in enumerate(codes) if {4 * i, 4 * i + 1, 4 * i + 2} <= alone]
    codes.pop()
    return {
        "removed": emptied(clean_text=True),
        "punctuation": sorted(punctuation),
        "marks": emptied(strip_accents=True),
    }


def ranges(codes):
    """Lines of ranges in hexadecimal, `first-last` or a single one, with spaces between them."""
    found = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    texts = [f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in found]
    lines = [""]
    for text in texts:
        if len(lines[-1]) + len(text) > 90:
            lines.append("")
        lines[-1] += f"{text} "
    return [line.rstrip() for line in lines]


def sources():
    """The text of each file, by its path."""
    kotlin = f"{NOTE}package textbundle\n\ninternal object UnicodeTables {{\n"
    swift = f"{NOTE}enum UnicodeTables {{\n"
    for name, codes in sets().items():
        lines, quotes = ranges(codes), '"""'
        body = "\n".join(f"    {line}" for line in lines)
        kotlin += f"  /** {KINDS[name]} */\n  val {name} = CodePoints(\n    {quotes}\n{body}\n"
        kotlin += f"    {quotes},\n  )\n\n"
        swift += f"  /// {KINDS[name]}\n  static let {name} = CodePoints(\n    {quotes}\n{body}\n"
        swift += f"    {quotes})\n\n"
    return {KOTLIN: kotlin.rstrip() + "\n}\n", SWIFT: swift.rstrip() + "\n}\n"}


def main():
    """Writes both files."""
    for path, text in sources().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
