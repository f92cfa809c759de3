"""Which family an encoder of ours belongs to: the one whose config says exactly the same."""

import inspect

from keras_addnorm.zoo.config import ConfigReader
from keras_addnorm.zoo.families import FAMILIES

# Arguments that do not change the outputs at inference. They travel where a config has a place
# for them.
TRAINING_ONLY = frozenset(
    {"dropout", "attention_dropout", "drop_path", "kernel_initializer", "name", "trainable"}
)
NOT_COMPARED = TRAINING_ONLY | {"dtype"}


def hugging_face_family(encoder, model_type=None, head_problems=None):
    """The family of Hugging Face checkpoints that an encoder is, and the keys of its config.json.

    Args:
        encoder: an encoder of ours.
        model_type: a key of `FAMILIES`. Default: the first that fits.
        head_problems: function of a `Family`; what keeps it from having the encoder's head.

    Raises:
        ValueError: if none fits, saying what keeps the closest one from it.
    """
    config = encoder.get_config()

    def read_back(family):
        keys = family.config_keys(config)
        reader = ConfigReader(keys, family.ignored_keys)
        back = family.encoder_config(reader)
        if family.pooler is not None and config["pooler"] is None:
            back["pooler"] = None  # Told by the tensors that are there.
        problems = reader.finish()
        if family.read_tensors is not None and not problems:
            problems += family.read_tensors(family.written_tensors(config).get, back)
        return keys, back, problems + head_problems(family) if head_problems else problems

    families = _candidates(FAMILIES, model_type)
    return _closest(encoder, families, read_back, "a Hugging Face checkpoint")


def keras_hub_family(encoder, model_type=None):
    """The family of KerasHub backbones that an encoder is, and the backbone's config.

    Args:
        encoder: an encoder of ours.
        model_type: a key of `FAMILIES`. Default: the first that fits.

    Raises:
        ValueError: if none fits, saying what keeps the closest one from it.
    """
    config = encoder.get_config()

    def read_back(family):
        keys = family.keras_hub.backbone_config(config)
        reader = ConfigReader(keys, family.keras_hub.ignored_keys)
        return keys, family.keras_hub.encoder_config(reader), reader.finish()

    known = {name: family for name, family in FAMILIES.items() if family.keras_hub is not None}
    return _closest(encoder, _candidates(known, model_type), read_back, "a KerasHub backbone")


def _candidates(known, model_type):
    """The families among `known` that an encoder may be."""
    if model_type is None:
        return known.values()
    if model_type not in known:
        raise ValueError(
            f"`model_type` must be one of {', '.join(map(repr, known))}. "
            f"Received: model_type={model_type!r}. Leave it out to take the first that fits."
        )
    return [known[model_type]]


def _closest(encoder, families, read_back, what):
    config, reasons = encoder.get_config(), {}
    for family in families:
        if not isinstance(encoder, family.encoder):
            continue
        try:
            keys, back, problems = read_back(family)
        except (KeyError, TypeError, ValueError) as error:  # It has no words for this encoder.
            problems, back = [str(error)], None
        if back is not None:
            problems = [*problems, *differences(config, back, family.encoder)]
        if not problems:
            return family, keys
        reasons[family.model_type] = back is None, problems
    if not reasons:
        raise ValueError(
            f"Only encoders of keras_addnorm become {what}. "
            f"Received: an object of type {type(encoder).__name__}. "
            "Pass a TransformerEncoder or an ImageEncoder, of the kind that the family has."
        )
    closest = min(reasons, key=lambda name: (reasons[name][0], len(reasons[name][1])))
    raise ValueError(
        f"No family says exactly what this encoder computes, so it cannot become {what}. "
        f"The closest is {closest!r}, but: {'; '.join(reasons[closest][1])}. "
        "Build the encoder with what the family has, or save it as a .keras file."
    )


def differences(config, back, cls):
    """What an encoder's config says otherwise than the arguments `back`, in words."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    family = {**defaults, **back}
    return [
        f"`{name}` is {config[name]!r}, the family has {family.get(name)!r}"
        for name in config
        if name not in NOT_COMPARED and not _same(config[name], family.get(name))
    ]


def _same(ours, theirs):
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours or {}, dict) and isinstance(theirs or {}, dict):
        ours, theirs = ours or {}, theirs or {}
        return ours.keys() == theirs.keys() and all(_same(ours[k], theirs[k]) for k in ours)
    return ours == theirs
