"""Norms at inference, each a core without weights and then one scale and shift a feature.

norm(x) = scale * core(x) + shift
"""

import dataclasses

import keras
import numpy as np

from keras_addnorm.layers import Affine, DynamicTanh, PowerNormalization

# The norms by their names as arguments of layers: the class, and those of its options that matter.
_NAMED = {
    "layer_norm": (keras.layers.LayerNormalization, {}),
    "layer_norm_no_bias": (keras.layers.LayerNormalization, {"center": False}),
    "rms_norm": (keras.layers.RMSNormalization, {}),
    "batch_norm": (keras.layers.BatchNormalization, {}),
    "power_norm": (PowerNormalization, {}),
    "dynamic_tanh": (DynamicTanh, {}),
    "affine": (Affine, {}),
}
NORM_CLASSES = {cls.__name__: cls for cls, _ in _NAMED.values()}
# Those whose statistics are constants, and the one that has none: nothing but scale and shift.
AFFINE = (keras.layers.BatchNormalization, PowerNormalization, Affine)


@dataclasses.dataclass
class Norm:
    """A norm in a `Part`: a sublayer that an argument names, or the layer itself.

    Attributes:
        part: the `Part`.
        argument: the argument of the part's layer that says which norm; None for the layer itself.
        cls: the class of the norm.
        options: dict of its arguments.
        name: of the sublayer, where the argument says a name.
        prefix: what the paths of its weights begin with.
    """

    part: object
    argument: str | None
    cls: type
    options: dict
    name: str = ""
    prefix: str = ""

    @property
    def scale(self):
        """float64 `(features,)`, or None where it is 1."""
        gamma = self._weight("scale" if self.cls is keras.layers.RMSNormalization else "gamma")
        square = self._weight(
            "moving_square" if self.cls is PowerNormalization else "moving_variance"
        )
        if square is None:
            return gamma
        return (1.0 if gamma is None else gamma) / np.sqrt(square + self.options["epsilon"])

    @property
    def shift(self):
        """float64 `(features,)`, or None where it is 0."""
        beta, mean = self._weight("beta"), self._weight("moving_mean")
        if mean is None:
            return beta
        return (0.0 if beta is None else beta) - mean * self.scale

    def _weight(self, name):
        path = f"{self.prefix}{name}"
        return self.part[path] if path in self.part else None

    @property
    def is_bare(self):
        """Whether there is neither scale nor shift."""
        scale, shift = self.scale, self.shift
        bare_scale = scale is None or (scale == 1.0).all()
        return self.cls is not Affine and bare_scale and (shift is None or not shift.any())

    def strip(self):
        """Leaves the core alone."""
        if self.cls is keras.layers.LayerNormalization:
            self.replace(self.cls, {**self.options, "center": False, "scale": False})
        elif self.cls in AFFINE:
            self.replace(keras.layers.Identity, {})
        else:  # These always have weights; a converter leaves out products with 1 and sums with 0.
            self.set(
                *(x if x is None else x * 0 + y for x, y in ((self.scale, 1), (self.shift, 0)))
            )

    def multiply(self, factor):
        """Multiplies scale and shift by a float or an array `(features,)`; False if it cannot."""
        if self.cls not in (*AFFINE[2:], *_SCALED) or self.scale is None:
            return False
        shift = self.shift
        self.set(self.scale * factor, shift if shift is None else shift * factor)
        return True

    def set(self, scale, shift):
        """Sets the weights that are scale and shift."""
        gamma = "scale" if self.cls is keras.layers.RMSNormalization else "gamma"
        for name, value in ((gamma, scale), ("beta", shift)):
            if value is not None:
                self.part[f"{self.prefix}{name}"] = value

    def to_affine(self):
        """Becomes an `Affine` with the scale and shift that there are."""
        scale, shift = self.scale, self.shift
        self.replace(Affine, {})
        self.set(scale, np.zeros_like(scale) if shift is None else shift)

    def replace(self, cls, options):
        """Becomes another norm, without weights."""
        for path in [p for p in self.part.paths if p.startswith(self.prefix) and self._owns(p)]:
            del self.part[path]
        self.cls, self.options = cls, options
        self.prefix = f"{self.name}/" if self.name else ""
        if self.argument is None:
            kept = {k: self.part.config[k] for k in ("trainable", "dtype")}
            self.part.cls, self.part.config = cls, {**options, **kept}
        elif cls is keras.layers.Identity:
            self.part.config[self.argument] = "none"
        elif cls is Affine:
            self.part.config[self.argument] = "affine"
        elif cls is keras.layers.RMSNormalization:
            self.part.config.update({self.argument: "rms_norm", "epsilon": options["epsilon"]})
        else:
            layer = cls(**{**options, "name": self.name})
            self.part.config[self.argument] = keras.saving.serialize_keras_object(layer)

    def _owns(self, path):
        return "/" not in path[len(self.prefix) :]


_SCALED = (keras.layers.LayerNormalization, keras.layers.RMSNormalization, DynamicTanh)


def norm_of(part, argument=None, name="norm"):
    """The `Norm` of a part that an argument says, or the part itself; None if it is no known one.

    Args:
        part: a `Part`.
        argument: name of an argument as `norm` of `AddNorm`. Default: the part is the norm.
        name: what the sublayer is called.
    """
    if argument is None:
        known = part.cls in NORM_CLASSES.values() and _is_usual(part.config)
        return Norm(part, None, part.cls, part.config) if known else None
    value = part.config[argument]
    value = "layer_norm" if value is True else value
    if isinstance(value, str) and value in _NAMED:
        cls, options = _NAMED[value]
        options = {"epsilon": part.config.get("epsilon"), **options}
        return Norm(part, argument, cls, options, name, f"{name}/")
    if isinstance(value, dict) and value.get("module", "").split(".")[0] in (
        "keras",
        "keras_addnorm",
    ):
        cls, options = NORM_CLASSES.get(value.get("class_name")), value.get("config", {})
        if cls is not None and _is_usual(options):
            return Norm(part, argument, cls, options, name, f"{options['name']}/")
    return None


def _is_usual(config):
    """Whether a norm has one scale a feature, of the last axis."""
    return config.get("axis", -1) in (-1, [-1]) and not config.get("rms_scaling", False)
