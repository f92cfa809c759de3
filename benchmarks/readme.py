"""Tables of README.md that are made from committed results."""

import pathlib

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def write_table(marks, table):
    """Replaces what stands between two marks of the README."""
    before, rest = README.read_text(encoding="utf-8").split(marks[0])
    _, after = rest.split(marks[1])
    README.write_text(f"{before}{marks[0]}\n{table}\n{marks[1]}{after}", encoding="utf-8")
