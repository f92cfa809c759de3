"""Embeddings of bundles are those of Keras, in the order of the texts, from any thread."""

import itertools
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from keras_addnorm import export, models
from keras_addnorm.text import Embedder
from tests.export import common
from tests.text.common import TEXTS

# float32 sums in another order, on vectors of length 1.
ATOL = 1e-5

FORMS = {
    "any length": {},
    "one length": {"sequence_length": 32},
    "several lengths": {"lengths": (4, 8, 32)},
    "with metadata": {"metadata": True},
    "ids alone": {"drop_inputs": ("padding_mask", "segment_ids")},
    "a batch": {"batch_size": 3, "sequence_length": 32},
    "a batch of any length": {"batch_size": 3},
    "any batch": {"batch_size": None},
    "any batch without masks": {"batch_size": None, "drop_inputs": ("padding_mask",)},
}


@pytest.fixture(scope="module")
def embedder(bundle):
    return Embedder(bundle)


@pytest.mark.parametrize("form", FORMS)
def test_embeddings_are_those_of_keras(form, model, tmp_path):
    export.to_text_bundle(model, tmp_path / "b", quantization=None, **FORMS[form])
    embedder = Embedder(tmp_path / "b", num_threads=2)
    assert (embedder.dimension, embedder.normalized, embedder.max_length) == (32, True, 32)
    texts = [*TEXTS, *(f"{a} {b}" for a, b in itertools.product(TEXTS, TEXTS))]
    found = embedder.embed(texts)
    assert found.dtype == "float32" and found.shape == (len(texts), 32)
    np.testing.assert_allclose(found, model.encode_text(texts), atol=ATOL)


@pytest.mark.parametrize("form", ["any length", "several lengths", "any batch"])
def test_a_text_without_any_token_is_padding(form, tmp_path):
    model = common.embedder()
    settings = json.loads(model.preprocessor.tokenizer.to_json()) | {"post_processor": None}
    tokenizer = models.Tokenizer(json.dumps(settings), pad_token="[PAD]")
    preprocessor = models.TextEmbedderPreprocessor(tokenizer, sequence_length=32)
    model = models.TextEmbedder(model.backbone, preprocessor=preprocessor)
    export.to_text_bundle(model, tmp_path / "b", quantization=None, **FORMS[form])
    texts = ["a cat", "", "yes"]
    found = Embedder(tmp_path / "b").embed(texts)
    np.testing.assert_allclose(found, model.encode_text(texts), atol=ATOL)


def test_texts_longer_than_the_longest_signature_are_cut(model, tmp_path):
    export.to_text_bundle(model, tmp_path / "b", quantization=None, lengths=(4, 8))
    embedder = Embedder(tmp_path / "b")
    assert embedder.max_length == 8 and embedder.check() > 40
    first, second = embedder.embed(["a cat sits on the mat .", "a cat sits on the mat . ! ?"])
    np.testing.assert_array_equal(first, second)
    assert embedder.cut(["a cat", "a cat sits on the mat", "a cat sits on the mat ."]) == [2]


def test_the_result_does_not_depend_on_windows_and_threads(bundle, embedder):
    texts = TEXTS * 20
    expected = embedder.embed(texts)
    for arguments in ({"batch_size": 1}, {"batch_size": 7}, {"batch_size": 10**6}):
        np.testing.assert_array_equal(embedder.embed(texts, **arguments), expected)
    np.testing.assert_array_equal(Embedder(bundle, num_threads=3).embed(texts), expected)


def test_nothing_gives_no_rows(embedder):
    for nothing in ([], (), iter([])):
        assert embedder.embed(nothing).shape == (0, 32)
    assert list(embedder.stream([])) == []


def test_a_stream_keeps_the_order_and_holds_one_window(embedder):
    taken = []

    def endless():
        for index in itertools.count():
            taken.append(index)
            yield TEXTS[index % len(TEXTS)]

    found = list(itertools.islice(embedder.stream(endless(), batch_size=10), 25))
    assert len(taken) == 30
    expected = embedder.embed([TEXTS[i % len(TEXTS)] for i in range(25)])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_many_threads_get_their_own_results(bundle, num_threads):
    embedder = Embedder(bundle, num_threads=num_threads)
    texts = [TEXTS[i:] + TEXTS[:i] for i in range(len(TEXTS))]
    expected, wrong = [embedder.embed(t * 8) for t in texts], []

    def work(index):
        for _ in range(20):
            if not np.array_equal(embedder.embed(texts[index] * 8), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(texts))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


def test_an_error_in_a_thread_reaches_the_caller_and_hinders_nothing(bundle, monkeypatch):
    embedder = Embedder(bundle, num_threads=2)
    expected = embedder.embed(TEXTS)
    inputs = type(embedder._engine)._inputs

    def fail(self, signature, length, indices, rows, type_ids):
        if length == 3:
            raise MemoryError("no room")
        return inputs(self, signature, length, indices, rows, type_ids)

    with monkeypatch.context() as patch:
        patch.setattr(type(embedder._engine), "_inputs", fail)
        for _ in range(5):
            with pytest.raises(MemoryError, match="no room"):
                embedder.embed(TEXTS * 20)
    np.testing.assert_array_equal(embedder.embed(TEXTS), expected)


@pytest.mark.parametrize(
    "texts, message",
    [
        ("a cat", "`texts` must be a list of strings. Received: 'a cat' of type str. Wrap it"),
        (b"a cat", "of type bytes"),
        (3, "Received: 3 of type int"),
        (None, "of type NoneType"),
        (["a", 3], "`text 1` must be a string. Received: 3 of type int"),
        (["a", b"b"], "`text 1` must be a string. Received: b'b' of type bytes"),
        ([None], "`text 0`"),
        (["a"] * 20 + [["b"]], "`text 20`"),
        (["half \ud83d"], "text 0, with half a surrogate pair at 5"),
    ],
)
def test_what_is_no_text_is_refused(embedder, texts, message):
    with pytest.raises(ValueError, match=message):
        embedder.embed(texts, batch_size=8)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_numbers_are_checked(bundle, embedder, value):
    with pytest.raises(ValueError, match="`batch_size` must be an int from 1"):
        embedder.embed(["a"], batch_size=value)
    if value != 0:
        with pytest.raises(ValueError, match="`num_threads` must be an int from 1 to 256"):
            Embedder(bundle, num_threads=value)


def test_search(embedder):
    corpus = embedder.embed(TEXTS)
    found = embedder.search("yes", corpus, k=3)
    assert [index for index, _ in found[:2]] == [1, 5] and found[0][1] == pytest.approx(1, abs=1e-6)
    assert found[0][1] == found[1][1] >= found[2][1]
    assert embedder.search(["yes", "the dog"], corpus, k=2)[1][0][0] == 7
    assert len(embedder.search("yes", corpus, k=100)) == len(TEXTS)


def test_no_tensorflow_and_no_keras_and_a_fork(bundle):
    code = f"""
import os, sys
from keras_addnorm.text import Embedder
embedder = Embedder({str(bundle)!r}, num_threads=2)
expected = embedder.embed(["a cat", "yes", "a dog"] * 50)
pid = os.fork()
same = (embedder.embed(["a cat", "yes", "a dog"] * 50) == expected).all()
if pid == 0:
    os._exit(0 if same else 1)
print(same, os.waitpid(pid, 0)[1], {{"tensorflow", "keras", "jax", "torch"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True 0 set()\n", done.stderr
