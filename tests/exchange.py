"""Models in files, for another process on another backend.

    KERAS_BACKEND=jax python -m tests.exchange MINE [THEIRS]

writes each of `MODELS` to the folder MINE as `<name>.keras`, `<name>.inputs.npz` and
`<name>.outputs.npz`; then loads those of the folder THEIRS and writes what they give for their
inputs to MINE, as `<name>.theirs.npz`.
"""

import pathlib
import sys

import keras
import numpy as np

from keras_addnorm.models import TransformerEncoder
from tests.common import TINY_ENCODER, encoder_inputs, flat_outputs, randomize
from tests.layers.test_contract import CASES

ENCODERS = {
    "encoder post-norm": {},
    "encoder pre-norm": {
        "residual": "pre_norm",
        "activation": "gelu_tanh",
        "position": "learned",
        "num_segments": 2,
        "embedding_norm": True,
        "pooler": "tanh",
    },
}


def _layer(case, rng):
    symbolic = case.symbolic()
    return keras.Model(symbolic, case.layer()(**symbolic)), case.inputs(rng)


def _encoder(kwargs, rng):
    inputs = encoder_inputs(rng, segments="num_segments" in kwargs)
    return TransformerEncoder(**{**TINY_ENCODER, **kwargs}), inputs


MODELS = {
    **{f"{i:02} {case.cls}": (_layer, case) for i, case in enumerate(CASES)},
    **{name: (_encoder, kwargs) for name, kwargs in ENCODERS.items()},
}


def outputs_of(model, inputs):
    """Outputs by position, as `np.savez` and `np.load` have them."""
    return {str(i): output for i, output in enumerate(flat_outputs(model(inputs)))}


def write(folder):
    """Saves every model with random weights, its inputs and its outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, row) in MODELS.items():
        rng = np.random.default_rng(1)
        model, inputs = make(row, rng)
        randomize(model, rng)
        model.save(folder / f"{name}.keras")
        np.savez(folder / f"{name}.inputs.npz", **inputs)
        np.savez(folder / f"{name}.outputs.npz", **outputs_of(model, inputs))


def load(folder, name):
    """A saved model's outputs for the saved inputs, computed here."""
    model = keras.saving.load_model(folder / f"{name}.keras")
    return outputs_of(model, dict(np.load(folder / f"{name}.inputs.npz")))


def main(mine, theirs=None):
    write(mine)
    for name in MODELS if theirs else ():
        np.savez(mine / f"{name}.theirs.npz", **load(theirs, name))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
