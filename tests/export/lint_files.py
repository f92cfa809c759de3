"""Files for the tests of lint: what the converter makes of a function, or changed after it."""

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from keras_addnorm import export

RNG = np.random.default_rng(0)
WEIGHTS = tf.constant(RNG.normal(size=(64, 64)), "float32")
FLOAT = tf.TensorSpec((1, 8, 64))


def change(path, function):
    """Unpacks a file, lets a function change it, and packs it again."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    function(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())


def found(path, rule):
    return [finding for finding in export.lint_file(path) if finding.rule == rule]


def only(path, rule):
    (finding,) = found(path, rule)
    assert finding.cost and finding.fix
    return finding


def dense(x):
    return tf.matmul(x, WEIGHTS)


def layer_norm(epsilon):
    def normalize(x):
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(centred * centred, -1, keepdims=True)
        return dense(centred * tf.math.rsqrt(variance + epsilon))

    return normalize
