"""Images of another size than the checkpoint's, against transformers, which interpolates in each
call."""

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402

from keras_addnorm import zoo  # noqa: E402
from keras_addnorm.zoo.positions import interpolate  # noqa: E402
from tests.common import to_numpy  # noqa: E402
from tests.zoo import cases  # noqa: E402
from tests.zoo.common import HIDDEN_STATES  # noqa: E402
from tests.zoo.make_reference import make_checkpoint  # noqa: E402
from tests.zoo.test_positions import GRIDS  # noqa: E402


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("old, new", [*GRIDS, ((37, 37), (16, 16)), ((14, 14), (24, 24))])
def test_interpolation_is_that_of_torch(rng, old, new, antialias):
    table = rng.normal(size=(1, old[0] * old[1], 8)).astype("float32")
    grid = torch.tensor(table).double().reshape(1, *old, 8).permute(0, 3, 1, 2)
    want = torch.nn.functional.interpolate(
        grid, size=new, mode="bicubic", align_corners=False, antialias=antialias
    )
    want = want.permute(0, 2, 3, 1).reshape(1, -1, 8).numpy()
    got = interpolate(table, old, new, antialias)
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-7)  # float32 values of size up to 5


@pytest.mark.parametrize("size", [(8, 8), (20, 20), (8, 16)])
@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2", "dinov2_with_registers"])
def test_outputs(tmp_path, rng, model_type, size):
    module = cases.module_of(model_type)
    theirs, _ = make_checkpoint(module, module.CASES["plain"], tmp_path)
    pixels = rng.normal(size=(2, 3, *size)).astype("float32")
    option = {} if "dino" in model_type else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        want = theirs(torch.tensor(pixels), **option).last_hidden_state.numpy()
    ours = zoo.from_hugging_face(tmp_path, image_size=size)
    got = to_numpy(ours({"images": pixels.transpose(0, 2, 3, 1)})["sequence_output"])
    assert np.abs(got - want).max() <= HIDDEN_STATES
