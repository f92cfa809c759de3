"""Bundles of tiny models, and what damages them."""

import hashlib
import json
import shutil

from keras_addnorm import models
from tests.common import word_piece
from tests.export import common

# Of several lengths, out of order, with doubles, an empty one and one that is cut.
TEXTS = [
    "a cat sits on the mat",
    "yes",
    "",
    "dog runs fast! how do i reset my password?",
    "a cat " * 30,
    "yes",
    "thanks",
    "the dog",
]


def classifier(classes=3, **arguments):
    """A random tiny classifier with a tokenizer."""
    preprocessor = models.TextClassifierPreprocessor(
        word_piece(common.VOCABULARY), sequence_length=32
    )
    encoder = common.encoder(num_segments=2)
    return common.randomize(models.TextClassifier(encoder, classes, preprocessor, **arguments))


def copy(bundle, tmp_path):
    """A copy of a bundle that a test may damage."""
    return shutil.copytree(bundle, tmp_path / "copy")


def read(folder, name="manifest.json"):
    return json.loads((folder / name).read_text("utf-8"))


def replace(folder, name, data):
    """Puts other bytes in a file of a bundle, and their digest in its manifest."""
    (folder / name).write_bytes(data)
    manifest = read(folder)
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write(folder, manifest)


def write(folder, manifest):
    (folder / "manifest.json").write_text(json.dumps(manifest))
