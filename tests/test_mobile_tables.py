"""The character classes in the Kotlin and Swift examples are those of `tokenizers`."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def test_the_tables_are_those_of_tokenizers():
    path = ROOT / "examples" / "android" / "make_unicode.py"
    spec = importlib.util.spec_from_file_location("make_unicode", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    sources = script.sources()
    assert len(sources) == 2
    for path, text in sources.items():
        assert path.read_text(encoding="utf-8") == text, (
            f"run examples/android/{script.__name__}.py"
        )
