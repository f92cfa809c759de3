"""Fixtures of the tests of export."""

import pytest
import tensorflow as tf


@pytest.fixture
def convert(tmp_path):
    """Converts a function of tensors with TensorFlow's converter; returns the file's path."""

    def convert(function, *specs, module=None, flex=False, **options):
        traced = tf.function(function, autograph=False).get_concrete_function(*specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module or tf.Module())
        for name, value in options.items():
            setattr(converter, name, value)
        if flex:
            sets = tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS
            converter.target_spec.supported_ops = sets
        path = tmp_path / "m.tflite"
        path.write_bytes(converter.convert())
        return path

    return convert
