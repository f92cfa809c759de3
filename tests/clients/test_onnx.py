"""Our SavedModel and our plain Keras model as ONNX, in ONNX Runtime."""

import numpy as np

from keras_addnorm.models import to_plain_keras


def test_onnx_gives_the_embeddings_of_keras(
    ask, embedder, saved_minilm, reference, ids_file, tmp_path
):
    plain = tmp_path / "plain.keras"
    to_plain_keras(embedder).save(plain)  # which Keras loads without this package
    reply = ask("onnx", ids=str(ids_file), saved_model=str(saved_minilm), keras_file=str(plain))
    for name in ("tf2onnx", "keras"):
        # Float32 in another order: sums of 384 to 1536 products, six layers, vectors of length 1.
        np.testing.assert_allclose(reply[name], reference["embedding"], atol=1e-5)
