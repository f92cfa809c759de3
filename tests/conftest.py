"""Settings that must precede the first import of Keras, and the fixtures all tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def rng():
    """A numpy generator with the same seed in every test; Keras's own seed is set too."""
    keras.utils.set_random_seed(1)
    return np.random.default_rng(1)
