"""What all tasks over this package's encoder share."""

import keras

from keras_addnorm.layers import checks
from keras_addnorm.models.transformer_encoder import TransformerEncoder


class EncoderTask:
    """To be inherited beside a KerasHub task: argument checks, inputs, saved compilation."""

    @classmethod
    def _check_arguments(cls, backbone, kwargs):
        names = {name: value for name, value in kwargs.items() if name != "compile"}
        checks.known_arguments(cls, names)
        if not isinstance(backbone, TransformerEncoder):
            raise ValueError(
                f"{cls.__name__}: `backbone` must be a keras_addnorm TransformerEncoder. "
                f"Received: an object of type {type(backbone).__name__}."
            )

    def preprocess_samples(self, x, y=None, sample_weight=None):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
            super().preprocess_samples(x, y, sample_weight)
        )
        if self.preprocessor is not None and "segment_ids" not in self.input:
            x = {name: value for name, value in x.items() if name != "segment_ids"}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def get_compile_config(self):
        config = super().get_compile_config()
        if config is not None:
            config = {**config, "optimizer_built": bool(self.optimizer and self.optimizer.built)}
        return config

    def compile_from_config(self, config):
        # KerasHub's own `compile` takes the same arguments, so the saved ones can be passed on.
        config = dict(config)
        trained = config.pop("optimizer_built", True)
        self.compile(**keras.saving.deserialize_keras_object(config))
        if trained and self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)
