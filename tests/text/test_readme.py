"""The README's example of bundles, run as it stands on the real weights."""

import pathlib

import pytest

from keras_addnorm import export, zoo
from keras_addnorm.text import Embedder
from tests.zoo.common import needs_weights

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@needs_weights
def test_the_example_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    marked = README.split("<!-- bundle: run by tests/text/test_readme.py -->\n```python\n")[1]
    names = {"export": export, "embedder": zoo.from_hugging_face("minilm", task="embed")}
    exec(marked.split("```")[0], names)  # noqa: S102
    assert names["corpus"].shape == (2, 384)
    ((index, cosine),) = names["minilm"].search("a kitten", names["corpus"], k=1)
    assert index == 0 and cosine == pytest.approx(0.48, abs=0.02)  # as Embedder's example says
    texts = ["A cat sits on the mat.", "Crème brûlée 👍", ""]
    ours, keras = Embedder("minilm_bundle").embed(texts), names["embedder"].encode_text(texts)
    assert ((ours * keras).sum(axis=1) > export.RECIPES["dynamic_int8"].min_cosine).all()
