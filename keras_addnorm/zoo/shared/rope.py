"""transformers' `rope_parameters` as arguments of `RotaryEmbedding`, and back."""

from keras_addnorm.zoo.config import ConfigReader

# Other types change the frequencies with the length of the input, or not by one factor.
_TYPES = {"default": "default", "linear": "linear"}


def read_rotation(config, name, parameters, max_wavelength):
    """The arguments of a rotation.

    Args:
        config: the `ConfigReader` that collects the problems.
        name: of the key that holds `parameters`, for the problems.
        parameters: the dict of one rotation, or None.
        max_wavelength: the base where the dict has none.
    """
    parameters = parameters or {}
    if not isinstance(parameters, dict):
        config.problems.append(f"config key `{name}` must be an object, got {parameters!r}")
        return {"max_wavelength": max_wavelength}
    reader = ConfigReader(parameters)
    older = reader.mapped("type", _TYPES, default="default")
    kind = reader.mapped("rope_type", _TYPES, default=older)
    options = {
        "max_wavelength": reader.number("rope_theta", 1e-3, 1e12, default=max_wavelength),
    }
    if kind == "linear":
        options["scaling_factor"] = reader.number("factor", 1e-3, 1e6)
    reader.must_be("partial_rotary_factor", 1.0, 1)
    config.problems += [f"in `{name}`: {problem}" for problem in reader.finish()]
    return options


def rotation_keys(options):
    """The inverse of `read_rotation`.

    Raises:
        ValueError: if the arguments say more than the keys can.
    """
    options = {"max_wavelength": 10000.0, **options}
    keys = {"rope_type": "default", "rope_theta": options.pop("max_wavelength")}
    factor = options.pop("scaling_factor", 1.0)
    if factor != 1.0:
        keys.update(rope_type="linear", factor=factor)
    if options:
        raise ValueError(f"rope_parameters have no words for {', '.join(map(repr, options))}")
    return keys
