"""The same encoder for images: patches in place of tokens."""

import keras

from keras_addnorm.layers import PatchEmbedding, checks
from keras_addnorm.models.blocks import MAX_SIZE, Blocks
from keras_addnorm.models.encoder import Encoder

# What the encoder itself tells its embeddings; all their other arguments can be options.
_EMBEDDINGS = (
    *("patch_size", "embedding_dim", "position", "dropout"),
    *("kernel_initializer", "embeddings_initializer"),
)
# Arguments of the blocks that only sequences of tokens have.
_TOKENS_ONLY = ("max_sequence_length", "position_options")


@keras.saving.register_keras_serializable(package="keras_addnorm")
class ImageEncoder(Encoder):
    """A transformer encoder of images: patch embeddings, then the blocks of `TransformerEncoder`.

    A functional model, and a KerasHub `Backbone`. The defaults are ViT-Base: 12 layers, pre-norm,
    85,798,656 weights for images of 224 x 224 in patches of 16 x 16.

    Args:
        image_shape: `(height, width, channels)`, in whole patches.
        patch_size: int, or a pair of ints (height, width), the pixels of a patch.
        position: `"learned"` or `"none"`.
        embedding_options: dict of further arguments of `PatchEmbedding`, such as
            `num_class_tokens` and `num_register_tokens`.
        num_layers, num_heads, hidden_dim, intermediate_dim, dropout, attention_dropout,
            activation, residual, norm, epsilon, pooler, kernel_initializer, drop_path,
            share_layers, attention_options, feed_forward_options, block_options, dtype: as in
            `TransformerEncoder`.

    Inputs (a dict):
        images: float `(batch, height, width, channels)`.

    Outputs (a dict):
        sequence_output: `(batch, tokens, hidden_dim)`, the normalized stream after the last
            block: class tokens, register tokens, patches row by row.
        pooled_output: `(batch, hidden_dim)`, where there is a pooler.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    encoder = ImageEncoder((224, 224, 3), residual="layer_scale", drop_path=0.1)
    features = encoder({"images": images})["sequence_output"][:, 0]  # the class token
    ```

    Source: Dosovitskiy et al., arXiv:2010.11929; Touvron et al., arXiv:2012.12877; Oquab et al.,
    arXiv:2304.07193.
    """

    def __init__(
        self,
        image_shape,
        patch_size=16,
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        intermediate_dim=3072,
        dropout=0.0,
        attention_dropout=None,
        activation="gelu",
        residual="pre_norm",
        norm=None,
        epsilon=1e-6,
        position="learned",
        pooler=None,
        kernel_initializer="glorot_uniform",
        drop_path=0.0,
        share_layers=False,
        attention_options=None,
        feed_forward_options=None,
        embedding_options=None,
        block_options=None,
        dtype=None,
        **kwargs,
    ):
        owner = "ImageEncoder"
        checks.known_arguments(ImageEncoder, kwargs)
        image_shape = _image_shape(owner, image_shape)
        checks.choice(owner, "position", position, ("learned", "none"))
        blocks = Blocks(
            owner=owner,
            num_layers=num_layers,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            residual=residual,
            norm=norm,
            epsilon=epsilon,
            position=position,
            pooler=pooler,
            kernel_initializer=kernel_initializer,
            drop_path=drop_path,
            share_layers=share_layers,
            attention_options=attention_options,
            feed_forward_options=feed_forward_options,
            block_options=block_options,
            dtype=dtype,
        )
        embedding_options = checks.options(
            owner, "embedding_options", embedding_options, PatchEmbedding, _EMBEDDINGS
        )
        embeddings = PatchEmbedding(
            patch_size,
            blocks.hidden_dim,
            position=position,
            dropout=blocks.dropout,
            kernel_initializer=blocks.kernel_initializer,
            embeddings_initializer=blocks.kernel_initializer,
            dtype=dtype,
            name="embeddings",
            **embedding_options,
        )

        # === Functional model ===
        inputs = {"images": keras.Input(shape=image_shape, name="images")}
        outputs = blocks(embeddings(inputs["images"]))
        super().__init__(inputs=inputs, outputs=outputs, dtype=dtype, **kwargs)

        # === Config ===
        names = [name for name in blocks.config() if name not in _TOKENS_ONLY]
        self._set_blocks(blocks, names)
        self.image_shape = image_shape
        self.patch_size = embeddings.patch_size
        self.embedding_options = embedding_options

    def get_config(self):
        return {
            **super().get_config(),
            "image_shape": list(self.image_shape),
            "patch_size": self.patch_size,
            "embedding_options": self.embedding_options,
        }


def _image_shape(owner, shape):
    if not isinstance(shape, (list, tuple)) or len(shape) != 3:
        raise ValueError(
            f"{owner}: `image_shape` must be (height, width, channels). "
            f"Received: image_shape={shape!r}. Pass for instance (224, 224, 3)."
        )
    return tuple(checks.positive_int(owner, "image_shape", size, limit=MAX_SIZE) for size in shape)
