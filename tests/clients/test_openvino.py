"""Our SavedModel and .tflite files in OpenVINO."""

import numpy as np

from keras_addnorm.export import RECIPES


def test_both_formats_give_the_embeddings_of_keras(ask, minilm, saved_minilm, reference, ids_file):
    models = {
        "SavedModel": str(saved_minilm),
        "float32": str(minilm()),
        "dynamic_int8": str(minilm(quantization="dynamic_int8")),
    }
    reply = ask("openvino", ids=str(ids_file), models=models)
    for name in ("SavedModel", "float32"):
        # Float32 in another order: sums of 384 to 1536 products, six layers, vectors of length 1.
        np.testing.assert_allclose(reply[name], reference["embedding"], atol=1e-5)
    # OpenVINO multiplies by int8 weights in float32, so it errs by the rounding of weights alone.
    cosines = (np.array(reply["dynamic_int8"]) * reference["embedding"]).sum(axis=1)
    assert cosines.min() >= RECIPES["dynamic_int8"].min_cosine
