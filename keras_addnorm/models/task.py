"""What all tasks over this package's encoders share."""

import keras

from keras_addnorm.layers import Head, checks
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.quantization import quantized_policies
from keras_addnorm.models.transformer_encoder import TransformerEncoder


class EncoderTask:
    """To be inherited beside a KerasHub task: argument checks, inputs, the head, saved compilation.

    Tasks with a `Head` set the attributes `head_options` and `head_dtype`.
    """

    backbone_cls = TransformerEncoder
    head_options = head_dtype = None

    @classmethod
    def _check_arguments(cls, backbone, kwargs):
        names = {name: value for name, value in kwargs.items() if name != "compile"}
        checks.known_arguments(cls, names)
        if not isinstance(backbone, cls.backbone_cls):
            raise ValueError(
                f"{cls.__name__}: `backbone` must be a keras_addnorm {cls.backbone_cls.__name__}. "
                f"Received: an object of type {type(backbone).__name__}. "
                "Those of KerasHub become one by keras_addnorm.zoo.from_keras_hub."
            )

    def _make_head(self, output_dim, head_options, head_dtype, told=(), name="head", **defaults):
        """Makes the attributes of the head's arguments, and returns the head.

        Args:
            output_dim: int or None, as in `Head`.
            head_options: dict of arguments of `Head`, or None.
            head_dtype: dtype policy, or None for the backbone's.
            told: names of the arguments that the task has itself, so that they are no options.
            name: of the layer.
            **defaults: arguments of `Head`, which the options replace.
        """
        reserved = ("output_dim", "kernel_initializer", "dtype", "name", *told)
        self.head_options = checks.options(
            type(self).__name__, "head_options", head_options, Head, reserved
        )
        self.head_dtype = head_dtype
        return Head(
            output_dim,
            kernel_initializer=copy_initializer(self.backbone.kernel_initializer),
            dtype=self._head_policy,
            name=name,
            **{**defaults, **self.head_options},
        )

    @property
    def _head_policy(self):
        return self.backbone.dtype_policy if self.head_dtype is None else self.head_dtype

    def _head_config(self):
        """The config of the head's arguments; its dtype tells what `quantize` made of the head."""
        config = {"head_options": dict(self.head_options), "head_dtype": None}
        policy = keras.dtype_policies.get(self._head_policy)
        quantized = quantized_policies(*(x for x in self.layers if x is not self.backbone))
        if quantized and not isinstance(policy, keras.dtype_policies.DTypePolicyMap):
            policy = keras.dtype_policies.DTypePolicyMap(policy, quantized)
        if quantized or self.head_dtype is not None:
            config["head_dtype"] = keras.dtype_policies.serialize(policy)
        return config

    def preprocess_samples(self, x, y=None, sample_weight=None):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
            super().preprocess_samples(x, y, sample_weight)
        )
        if (
            self.preprocessor is not None
            and isinstance(x, dict)
            and "segment_ids" not in self.input
        ):
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
