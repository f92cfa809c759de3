"""Tiny random checkpoints of every family, as data: one file each, as in `zoo.families`.

A file has
    BASE      keys that all its configs have,
    CASES     name: (class of transformers, further keys),
    FIXTURES  the names of those cases that are committed with reference values,
    HUB       list of arguments of KerasHub's backbone, where it has the family,
    SCALE     optional: size of the random weights, default 0.5.
"""

import importlib

from keras_addnorm.zoo import FAMILIES


def module_of(model_type):
    """The cases of a family."""
    return importlib.import_module(f"{__name__}.{model_type.replace('-', '_')}")


CASES = {
    f"{model_type}: {name}": (model_type, *case)
    for model_type in FAMILIES
    for name, case in module_of(model_type).CASES.items()
}
FIXTURES = [
    f"{model_type}_{name}" for model_type in FAMILIES for name in module_of(model_type).FIXTURES
]
HUB = {
    f"{model_type}: {index}": (model_type, arguments)
    for model_type in FAMILIES
    for index, arguments in enumerate(getattr(module_of(model_type), "HUB", ()))
}
