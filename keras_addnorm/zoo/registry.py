"""The published architectures and weights of all families, by name."""

import fnmatch

from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.families import FAMILIES

SEPARATOR = "."


def architectures():
    """Dict of `(Family, Preset)` by name of the architecture."""
    return {
        name: (family, preset)
        for family in FAMILIES.values()
        for name, preset in family.presets.items()
    }


def list_presets(pattern=None, family=None):
    """Names of published encoders: `name` is an architecture, `name.tag` one with its weights.

    Args:
        pattern: shell pattern that the whole name must match, such as `"bert_*"`. Default: all.
        family: a model type, a key of `zoo.FAMILIES`. Default: all.

    Returns:
        Sorted list of strings; each can be passed to `from_preset`.

    Raises:
        ValueError: on an unknown family.

    Example:

    ```python
    keras_addnorm.list_presets("minilm*")  # ["minilm_l6_h384", "minilm_l6_h384.all_v2", ...]
    ```
    """
    if family is not None and family not in FAMILIES:
        raise ValueError(
            f"`family` must be one of {', '.join(map(repr, FAMILIES))}. "
            f"Received: family={family!r}. Leave it out for all."
        )
    names = []
    for name, (owner, preset) in architectures().items():
        if family in (None, owner.model_type):
            names += [name, *(f"{name}{SEPARATOR}{tag}" for tag in preset.tags)]
    return sorted(n for n in names if pattern is None or fnmatch.fnmatchcase(n, pattern))


def find(name):
    """`(Family, Preset, Published or None)` of a preset's name; None if it is no such name."""
    architecture, separator, tag = str(name).partition(SEPARATOR)
    found = architectures().get(architecture)
    if found is None or (separator and tag not in found[1].tags):
        return None
    return (*found, found[1].tags[tag] if separator else None)


def license_of(source):
    """SPDX identifier of the licence of weights that `from_preset` takes; None if unknown."""
    name = str(source).removeprefix("hf://")
    for architecture, (_, preset) in architectures().items():
        for tag, published in preset.tags.items():
            known = f"{architecture}{SEPARATOR}{tag}", published.repository, published.package
            if name in known:
                return published.license
    return None


def preset_facts(pattern=None, family=None):
    """What is known of the presets that `list_presets` names: list of dicts."""
    facts = []
    for name in list_presets(pattern, family):
        owner, preset, published = find(name)
        facts.append(
            {
                "name": name,
                "family": owner.model_type,
                "parameters": preset.parameters,
                "source": published and published.repository,
                "package": published and published.package,
                "license": published and published.license,
                "paper": preset.paper,
            }
        )
    return facts


def encoder_config(family, preset):
    """The encoder's arguments of a published architecture."""
    reader = ConfigReader(preset.config, family.ignored_keys)
    config = family.encoder_config(reader)
    problems = reader.finish()
    if problems:
        raise AssertionError(f"A preset of {family.model_type} is wrong: {problems}")
    if not preset.pooler:
        config["pooler"] = None
    return config
