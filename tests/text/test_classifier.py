"""Labels and scores of bundles are those of Keras."""

import numpy as np
import pytest

from keras_addnorm import export
from keras_addnorm.export.metadata.read import read_metadata
from keras_addnorm.text import BundleError, Classifier, Embedder
from tests.text import common
from tests.text.common import TEXTS

LABELS = ["good", "bad", "so, so"]
CASES = {
    "logits": {"labels": LABELS},
    "softmax": {"labels": LABELS, "activation": "softmax"},
    "several": {"labels": LABELS, "activation": "sigmoid"},
    "numbered": {},
    "regression": {"classes": 1, "labels": ["stars"]},
}


@pytest.mark.parametrize(
    "case, metadata", [*((case, False) for case in CASES), ("logits", True), ("several", True)]
)
def test_labels_and_scores_are_those_of_keras(case, metadata, tmp_path):
    model = common.classifier(**CASES[case])
    export.to_text_bundle(
        model, tmp_path / "b", quantization=None, metadata=metadata, license="MIT"
    )
    assert read_metadata(tmp_path / "b" / "model.tflite").get("license") == (
        "MIT" if metadata else None
    )
    assert common.read(tmp_path / "b")["model"]["metadata"] is metadata
    classifier = Classifier(tmp_path / "b")
    texts = [text for text in TEXTS if text]
    for k in (1, 2, None):
        expected = model.classify(texts, top_k=k or 3)
        found = classifier.classify(texts, k)
        for ours, theirs in zip(found, expected, strict=True):
            assert [label for label, _ in ours] == [str(label) for label, _ in theirs]
            np.testing.assert_allclose([s for _, s in ours], [s for _, s in theirs], atol=1e-5)
    assert classifier.check() > 40 and classifier.max_length == 32


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "classifier"
    export.to_text_bundle(common.classifier(labels=LABELS), folder, quantization=None)
    return folder


def test_nothing_and_wrong_arguments(bundle):
    classifier = Classifier(bundle)
    assert classifier.labels == LABELS
    assert classifier.classify([]) == [] and classifier.scores([]).shape == (0, 3)
    for k in (0, -1, 1.0, True):
        with pytest.raises(ValueError, match="`k` must be a positive int or None"):
            classifier.classify(["a"], k)
    with pytest.raises(ValueError, match="`texts` must be a list of strings"):
        classifier.classify("a cat")


def test_the_task_must_fit(bundle):
    with pytest.raises(BundleError, match="for the task 'classify', not 'embed'. Use"):
        Embedder(bundle)


def test_as_many_labels_as_outputs(bundle, tmp_path):
    folder = common.copy(bundle, tmp_path)
    common.replace(folder, "labels.txt", b"good\nbad\n")
    with pytest.raises(BundleError, match="has 2 labels for 3 outputs"):
        Classifier(folder)
    common.replace(folder, "labels.txt", b"\xff\n\n\n")
    with pytest.raises(BundleError, match="labels.txt is not UTF-8"):
        Classifier(folder)
    manifest = common.read(folder)
    manifest["classification"]["activation"] = "tanh"
    common.write(folder, manifest)
    with pytest.raises(BundleError, match="must have an activation of"):
        Classifier(folder)
