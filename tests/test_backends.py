"""The same weights give the same outputs on every backend, by way of a file, in each direction."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import exchange
from tests.backends import BACKEND

ROOT = Path(__file__).parents[1]
OTHERS = [name for name in ("tensorflow", "jax", "torch") if name != BACKEND]
each_model = pytest.mark.parametrize("name", exchange.MODELS)

# Float32 on both sides, summed in another order: a few units of 6e-8 of values up to
# 10, so some 2e-6; 1e-5 is what the package promises.
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp(BACKEND)
    exchange.write(folder)
    return folder


@pytest.fixture(scope="module", params=OTHERS)
def theirs(request, ours, tmp_path_factory):
    """What one process on another backend saved, and computed from what we saved."""
    other = request.param
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    folder = tmp_path_factory.mktemp(other)
    run = subprocess.run(
        [sys.executable, "-m", "tests.exchange", folder, ours],
        env={**os.environ, "KERAS_BACKEND": other},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return folder


def assert_same(got, want, name):
    assert got.keys() == want.keys() and want
    for key in want:
        assert np.any(want[key]), f"{name}: nothing to compare"
        np.testing.assert_allclose(got[key], want[key], **TOLERANCE)


@each_model
def test_a_model_saved_there_gives_the_same_here(ours, theirs, name):
    want = dict(np.load(theirs / f"{name}.outputs.npz"))
    assert_same(exchange.load(theirs, name), want, name)


@each_model
def test_a_model_saved_here_gives_the_same_there(ours, theirs, name):
    want = dict(np.load(ours / f"{name}.outputs.npz"))
    assert_same(dict(np.load(theirs / f"{name}.theirs.npz")), want, name)
