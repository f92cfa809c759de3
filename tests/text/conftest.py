"""Fixtures of the tests of text."""

import pytest

from keras_addnorm import export
from tests.export.common import embedder


@pytest.fixture(scope="session")
def model():
    """A random tiny embedder."""
    return embedder()


@pytest.fixture(scope="session")
def bundle(model, tmp_path_factory):
    """A bundle of it, for any length; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "embedder"
    export.to_text_bundle(model, folder, quantization=None)
    return folder
