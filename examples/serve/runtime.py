"""An MLServer runtime for SavedModels: a signature over the Open Inference (KServe V2) protocol.

`parameters.extra.signature` names it; strings go in as BYTES, ids as INT32.
"""

import asyncio

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceResponse, MetadataTensor
from mlserver.utils import get_model_uri

DATATYPES = {tf.string: "BYTES", tf.int32: "INT32", tf.float32: "FP32"}


class SavedModel(MLModel):
    """One signature of a SavedModel as a model of the protocol."""

    async def load(self):
        uri = await get_model_uri(self.settings)
        self._loaded = tf.saved_model.load(uri)  # which also keeps the weights alive
        extra = self.settings.parameters.extra or {}
        self._function = self._loaded.signatures[extra.get("signature", "serving_default")]
        self._specs = self._function.structured_input_signature[1]
        self.inputs = _metadata(self._specs)
        self.outputs = _metadata(self._function.structured_outputs)
        return True

    async def predict(self, payload):
        inputs = {x.name: x for x in payload.inputs}
        if inputs.keys() != self._specs.keys():
            raise InferenceError(
                f"The inputs are {sorted(self._specs)}. Received: {sorted(inputs)}."
            )
        tensors = {name: _tensor(x, self._specs[name]) for name, x in inputs.items()}
        # In a thread, so that the server answers others meanwhile.
        outputs = await asyncio.to_thread(self._function, **tensors)
        encoded = [_encoded(name, value.numpy()) for name, value in outputs.items()]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=encoded)


def _metadata(specs):
    return [
        MetadataTensor(
            name=name,
            datatype=DATATYPES[spec.dtype],
            shape=[-1 if size is None else size for size in spec.shape],
        )
        for name, spec in sorted(specs.items())
    ]


def _tensor(received, spec):
    if spec.dtype == tf.string:
        return tf.constant(StringCodec.decode_input(received), tf.string)
    try:
        return tf.constant(NumpyCodec.decode_input(received).astype(spec.dtype.as_numpy_dtype))
    except ValueError as error:
        raise InferenceError(f"{received.name}: {error}") from error


def _encoded(name, value):
    if value.dtype == object:
        strings = StringCodec.encode_output(name, [x.decode() for x in value.ravel()])
        return strings.model_copy(update={"shape": list(value.shape)})
    return NumpyCodec.encode_output(name, np.ascontiguousarray(value))
