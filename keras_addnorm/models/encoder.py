"""What the encoders of text and of images share: they are KerasHub backbones over `Blocks`."""

import keras
from keras_hub.models import Backbone

from keras_addnorm.layers.quantization import layer_config


class Encoder(Backbone):
    """A backbone whose blocks are `Blocks`; not for use on its own."""

    def _set_blocks(self, blocks, names):
        """Makes the arguments of the blocks called `names` attributes and part of the config."""
        self._blocks, self._block_names = blocks, tuple(names)
        for name in names:
            setattr(self, name, getattr(blocks, name))

    def enable_lora(self, rank, target_layer_names=None):
        """Trains low-rank factors beside frozen kernels; see `keras_hub.models.Backbone`."""
        super().enable_lora(rank, target_layer_names)
        for layer in self._flatten_layers():  # Trained biases would not be among the saved weights.
            if getattr(layer, "lora_enabled", False) and layer.bias is not None:
                layer.bias.trainable = False

    def get_config(self):
        # Not from KerasHub's `get_config`, which forgets the dtype policy of the layers that
        # `quantize` leaves alone and takes the names of the others' policies away.
        dtype = keras.dtype_policies.serialize(self.dtype_policy)
        config = {"name": self.name, "trainable": self.trainable, "dtype": dtype}
        blocks = self._blocks.config()
        return {**layer_config(self, config), **{name: blocks[name] for name in self._block_names}}
