"""From an image to a sequence: patches, class and register tokens, positions."""

import keras
from keras import ops

from keras_addnorm.layers import checks
from keras_addnorm.layers.dense import copy_initializer
from keras_addnorm.layers.dropout import Dropout
from keras_addnorm.layers.precision import narrow, widen
from keras_addnorm.layers.shapes import reshape


@keras.saving.register_keras_serializable(package="keras_addnorm")
class PatchEmbedding(keras.layers.Layer):
    """Cuts images into patches and embeds each, behind class and register tokens.

        patches = flatten(patch_i) W + b                  (one strided convolution, row by row)
        output  = dropout([class + positions, registers, patches + positions])

    Class tokens have positions, the first of the table; register tokens have none. The table is
    for the image size that the layer is built for.

    Args:
        patch_size: int, or a pair of ints (height, width), the pixels of a patch.
        embedding_dim: int, features of the output.
        num_class_tokens: int, trained tokens before the patches, with positions: 1 (ViT), 2 with
            a distillation token (DeiT), or 0.
        num_register_tokens: int, trained tokens between those and the patches (DINOv2: 4).
        position: `"learned"` or `"none"`.
        dropout: float in [0, 1), dropout rate of the output while training.
        use_bias: bool, whether the patch projection has a bias.
        kernel_initializer: initializer of the projection's kernel.
        bias_initializer: initializer of the projection's bias.
        embeddings_initializer: initializer of tokens and positions.

    Call arguments:
        images: float tensor `(batch, height, width, channels)`.
        training: bool, whether dropout is active.

    Output shape:
        `(batch, num_class_tokens + num_register_tokens + patches, embedding_dim)`.

    Raises:
        ValueError: on an invalid argument, images that are not of rank 4, that patches do not
            divide, that are of another size than the positions, or, where there are positions,
            of an unknown one.

    Example:

    ```python
    x = PatchEmbedding(16, 768)(keras.random.normal((2, 224, 224, 3)))  # (2, 197, 768)
    ```

    Source: Dosovitskiy et al., arXiv:2010.11929, section 3.1; distillation token: Touvron et al.,
    arXiv:2012.12877; registers: Darcet et al., arXiv:2309.16588.
    """

    def __init__(
        self,
        patch_size,
        embedding_dim,
        num_class_tokens=1,
        num_register_tokens=0,
        position="learned",
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        embeddings_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**checks.known_arguments(PatchEmbedding, kwargs))
        owner = "PatchEmbedding"
        self.patch_size = _patch_size(owner, patch_size)
        self.embedding_dim = checks.positive_int(owner, "embedding_dim", embedding_dim)
        self.num_class_tokens = checks.non_negative_int(owner, "num_class_tokens", num_class_tokens)
        self.num_register_tokens = checks.non_negative_int(
            owner, "num_register_tokens", num_register_tokens
        )
        self.position = checks.choice(owner, "position", position, ("learned", "none"))
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self._prefix = self.num_class_tokens + self.num_register_tokens
        self.projection = keras.layers.Conv2D(
            self.embedding_dim,
            self.patch_size,
            strides=self.patch_size,
            data_format="channels_last",
            use_bias=self.use_bias,
            kernel_initializer=copy_initializer(self.kernel_initializer),
            bias_initializer=copy_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name="projection",
        )
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, images_shape):
        patches = self._num_patches(images_shape)
        self.projection.build(images_shape)
        self.class_tokens = self._tokens("class_tokens", self.num_class_tokens)
        self.register_tokens = self._tokens("register_tokens", self.num_register_tokens)
        self.position_embeddings = None
        if self.position == "learned":
            rows = self.num_class_tokens + patches
            self.position_embeddings = self._tokens("position_embeddings", rows)
            self._image_size = tuple(images_shape[1:3])
        self.built = True

    def _tokens(self, name, number):
        if not number:
            return None
        initializer = copy_initializer(self.embeddings_initializer)
        shape = (number, self.embedding_dim)
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def _num_patches(self, shape):
        """Patches of an image, or None where its size is not known."""
        if len(shape) != 4 or shape[-1] is None:
            raise ValueError(
                "PatchEmbedding: `images` must have shape (batch, height, width, channels) with "
                f"known channels. Received: images of shape {tuple(shape)}. Reshape them first."
            )
        (height, width), (h, w) = shape[1:3], _pair(self.patch_size)
        if (height or 0) % h or (width or 0) % w:
            raise ValueError(
                f"PatchEmbedding cuts images into whole patches of {h} x {w}. "
                f"Received: images of shape {tuple(shape)}. Resize or crop them to multiples."
            )
        known = height is not None and width is not None
        if self.position == "learned" and not known:
            raise ValueError(
                "PatchEmbedding: learned positions are for images of one known size. "
                f"Received: images of shape {tuple(shape)}. Give the input its height and width, "
                "or pass position='none'."
            )
        return (height // h) * (width // w) if known else None

    def call(self, images, training=None):
        patches = self._num_patches(images.shape)
        if self.position == "learned" and tuple(images.shape[1:3]) != self._image_size:
            raise ValueError(
                f"PatchEmbedding has learned positions for images of size {self._image_size}. "
                f"Received: images of shape {tuple(images.shape)}. Resize them first."
            )
        x = widen(self.projection(images))  # [batch, rows, columns, embedding_dim]
        x = reshape(x, (images.shape[0], patches, self.embedding_dim), like=images)
        if self._prefix or self.position == "learned":
            table = self._table(ops.shape(x)[1], x.dtype)
            # Padding and a sum need no copy of the tokens for each image, as concatenation would:
            # a converted graph with an unknown batch stays free of shape arithmetic.
            x = ops.add(ops.pad(x, ((0, 0), (self._prefix, 0), (0, 0))), table)
        return self.dropout_layer(narrow(x, self.compute_dtype), training=training)

    def _table(self, patches, dtype):
        """What is added to the padded patches, shape `(1, prefix + patches, embedding_dim)`."""
        first, last, n = self.class_tokens, None, self.num_class_tokens
        if self.position == "learned":
            positions = ops.convert_to_tensor(self.position_embeddings)
            first, last = ops.add(first, positions[:n, :]) if n else None, positions[n:, :]
        parts = [part for part in (first, self.register_tokens, last) if part is not None]
        table = ops.concatenate([ops.cast(part, dtype) for part in parts])
        if last is None:
            table = ops.pad(table, ((0, patches), (0, 0)))
        return ops.expand_dims(table, 0)

    def compute_output_shape(self, images_shape):
        patches = self._num_patches(images_shape)
        tokens = None if patches is None else self._prefix + patches
        return (images_shape[0], tokens, self.embedding_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "embedding_dim": self.embedding_dim,
            "num_class_tokens": self.num_class_tokens,
            "num_register_tokens": self.num_register_tokens,
            "position": self.position,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def _patch_size(owner, size):
    """An int, or a list of two."""
    if not isinstance(size, (list, tuple)):
        return checks.positive_int(owner, "patch_size", size)
    if len(size) != 2:
        raise ValueError(
            f"{owner}: `patch_size` must be an int or a pair of ints (height, width). "
            f"Received: patch_size={size!r}. Pass for instance 16 or (16, 8)."
        )
    return [checks.positive_int(owner, "patch_size", n) for n in size]
