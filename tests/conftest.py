"""Settings that must precede the first import of Keras, and the fixtures all tests share."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# oneDNN computes otherwise on every kind of CPU: on one with AMX, TensorFlow 2.21 was off by 3.6e-5
# on MiniLM, and gave other values in each run, NaN too, for DeBERTa with a single head.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def rng():
    """A numpy generator with the same seed in every test; Keras's own seed is set too."""
    keras.utils.set_random_seed(1)
    return np.random.default_rng(1)


def pytest_collection_finish():
    """What was imported stays: no garbage collection looks through it again.

    Keras starts one for each kernel that `quantize` replaces, a quarter of a second each.
    """
    gc.freeze()


ERRORS = pytest.StashKey()


@pytest.fixture
def record_error(request):
    """Keeps the worst error of a test, and the configuration that gave it, for the summary."""
    worst = request.config.stash.setdefault(ERRORS, {})

    def record(name, configuration, error):
        count, most, where = worst.get(name, (0, -1.0, None))
        if error > most:
            most, where = error, configuration
        worst[name] = (count + 1, most, where)

    return record


def pytest_terminal_summary(terminalreporter, config):
    worst = config.stash.get(ERRORS, {})
    if not worst:
        return
    total = sum(count for count, *_ in worst.values())
    terminalreporter.section(f"worst absolute errors of {total} configurations against float64")
    for name, (count, most, where) in sorted(worst.items(), key=lambda item: -item[1][1]):
        terminalreporter.write_line(f"{most:.2e} of {count:3d} {name}: {where}")
