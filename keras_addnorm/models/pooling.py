"""From an encoder's outputs to the one vector of features that a classifier looks at."""

from keras import ops

from keras_addnorm.layers import SequencePooling


def pool_features(owner, backbone, pooling, choices):
    """The features of an encoder's inputs, symbolic `(batch, features)`; see `pool_each`."""
    features = pool_each(owner, backbone, pooling, choices)
    return features[0] if len(features) == 1 else ops.concatenate(features, axis=-1)


def pool_each(owner, backbone, pooling, choices):
    """The features by pooling, a list of symbolic `(batch, features)`.

    Args:
        owner: class name of the task, for the error.
        backbone: the encoder.
        pooling: a name, or a list of names, whose features are joined in their order: keys of
            `choices`, or `"pooler"` where the encoder has one.
        choices: dict of arguments of `SequencePooling` by name.

    Raises:
        ValueError: on other names, or none.
    """
    names = [pooling] if isinstance(pooling, str) else pooling
    offered = [*choices] if backbone.pooler is None else [*choices, "pooler"]
    known = isinstance(names, (list, tuple)) and all(x in offered for x in names)
    if not known or not names or len(set(names)) < len(names):
        raise ValueError(
            f"{owner}: `pooling` must be one of {', '.join(map(repr, offered))}, or a list of some "
            "of them: 'pooler' is offered where the encoder has a `pooler`, 'cls' and "
            "'distillation' where it has such tokens. "
            f"Received: pooling={pooling!r}. Pass for instance 'mean'."
        )
    outputs, mask = backbone(backbone.input), backbone.input.get("padding_mask")
    features = []
    for name in names:
        if name == "pooler":
            features.append(outputs["pooled_output"])
            continue
        layer = SequencePooling(
            **choices[name], dtype=backbone.dtype_policy, name=f"{name}_pooling"
        )
        features.append(layer(outputs["sequence_output"], padding_mask=mask))
    return features
