"""Reading a checkpoint's configuration so that no key is overlooked."""

import math

_ABSENT = object()

MAX_LABELS = 2**20

# transformers' names of activations, and ours.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

# Keys that any config.json may have, and that change nothing in what an encoder computes.
IGNORED_KEYS = frozenset(
    # What the file is about.
    "model_type architectures _name_or_path transformers_version torch_dtype dtype "
    # Training and initialization.
    "initializer_range gradient_checkpointing use_cache output_past "
    # Heads and tasks, not part of the encoder.
    "id2label label2id num_labels problem_type finetuning_task task_specific_params "
    "tie_word_embeddings classifier_dropout "
    # Padding is told by the mask; the ids of special tokens are the tokenizer's.
    "pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id "
    # How transformers runs the model, not what it computes.
    "return_dict output_hidden_states output_attentions chunk_size_feed_forward torchscript "
    "attn_implementation _attn_implementation_autoset use_bfloat16 tf_legacy_loss".split()
)

# Decoders are not encoders, and pruned heads have other shapes.
ENCODER_ONLY = (
    ("is_decoder", (False,)),
    ("add_cross_attention", (False,)),
    ("is_encoder_decoder", (False,)),
    ("pruned_heads", ({},)),
)


def default_labels(count):
    """transformers' names of classes without names."""
    return [f"LABEL_{index}" for index in range(count)]


def key_of(choices, value):
    """The first key of `choices` with this value: transformers' name for ours.

    Raises:
        ValueError: if there is none.
    """
    for key, ours in choices.items():
        if ours == value:
            return key
    known = ", ".join(map(repr, dict.fromkeys(choices.values())))
    raise ValueError(f"it can say only {known}, not {value!r}")


class ConfigReader:
    """Reads a `config.json` key by key and remembers which keys nobody asked for.

    Problems are collected in `problems`, so that they can be reported together; after a problem
    the value returned is the fallback, good enough to go on looking for more.

    Args:
        config: the dict.
        ignored: keys known not to change what the encoder computes.
    """

    def __init__(self, config, ignored=()):
        self._config = config
        self._unread = set(config) - set(ignored)
        self.problems = []

    def __contains__(self, name):
        return name in self._config

    def _take(self, name, default):
        self._unread.discard(name)
        value = self._config.get(name, default)
        if value is _ABSENT:
            self.problems.append(f"config key `{name}` is missing")
        return value

    def value(self, name, default=_ABSENT):
        """Whatever is there."""
        return self._take(name, default)

    def integer(self, name, high, low=1, default=_ABSENT):
        """A whole number from `low` to `high`."""
        value = self._take(name, default)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole and low <= value <= high:
            return value
        if value is not _ABSENT:
            self.problems.append(
                f"config key `{name}` must be a whole number from {low} to {high}, got {value!r}"
            )
        return low

    def sizes(self, name, number, high, default=_ABSENT):
        """A list of `number` whole numbers from 1 to `high`; one stands for all."""
        value = self._take(name, default)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * number
        whole = [isinstance(x, int) and not isinstance(x, bool) for x in values]
        if len(values) == number and all(whole) and all(1 <= x <= high for x in values):
            return values
        if value is not _ABSENT:
            self.problems.append(
                f"config key `{name}` must be a whole number from 1 to {high}, or a list of "
                f"{number}, got {value!r}"
            )
        return [1] * number

    def number(self, name, low, high, default=_ABSENT):
        """A finite number from `low` to `high`."""
        value = self._take(name, default)
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        if real and math.isfinite(value) and low <= value <= high:
            return float(value)
        if value is not _ABSENT:
            self.problems.append(
                f"config key `{name}` must be a number from {low} to {high}, got {value!r}"
            )
        return high

    def mapped(self, name, choices, default=_ABSENT):
        """One of the keys of `choices`; returns its value there."""
        value = self._take(name, default)
        if isinstance(value, str) and value in choices:
            return choices[value]
        if value is not _ABSENT:
            self.problems.append(
                f"config key `{name}` must be one of {', '.join(sorted(choices))}, got {value!r}"
            )
        return next(iter(choices.values()))

    def subset(self, name, choices, default=_ABSENT):
        """Some of `choices`, in their order: a list, a string with `|` between them, or null."""
        value = self._take(name, default)
        found = [x.strip() for x in value.lower().split("|")] if isinstance(value, str) else value
        if isinstance(found, (list, tuple)) and all(x in choices for x in found):
            return [choice for choice in choices if choice in found]
        if value is not _ABSENT and value is not None:
            self.problems.append(
                f"config key `{name}` must be some of {', '.join(choices)}, got {value!r}"
            )
        return []

    def must_be(self, name, *allowed):
        """A key that, where it is present, must have one of the values `allowed`."""
        value = self._take(name, allowed[0])
        if not any(type(value) is type(a) and value == a for a in allowed):
            self.problems.append(
                f"config key `{name}` is supported only as "
                f"{' or '.join(repr(a) for a in allowed)}, got {value!r}"
            )

    def flag(self, name, default=_ABSENT):
        """True or False."""
        value = self._take(name, default)
        if isinstance(value, bool):
            return value
        if value is not _ABSENT:
            self.problems.append(f"config key `{name}` must be true or false, got {value!r}")
        return False

    def mapping(self, name):
        """A JSON object; None where the key is null or absent."""
        value = self._take(name, None)
        if value is None or isinstance(value, dict):
            return value
        self.problems.append(f"config key `{name}` must be an object, got {value!r}")
        return None

    def names(self, name, number, choices):
        """A list of `number` of the strings `choices`; None where the key is null or absent."""
        value = self._take(name, None)
        if isinstance(value, list) and len(value) == number and all(x in choices for x in value):
            return value
        if value is not None:
            self.problems.append(
                f"config key `{name}` must be a list of {number} of {', '.join(choices)}, got "
                f"{str(value)[:100]}"
            )
        return None

    def optional(self, name, read, *args, **kwargs):
        """None where the key is null or absent, else what `read` (a method of this) reads."""
        if self._config.get(name) is None:
            self._unread.discard(name)
            return None
        return read(name, *args, **kwargs)

    def encoder_only(self):
        """The keys that say that this is no decoder."""
        for name, allowed in ENCODER_ONLY:
            self.must_be(name, *allowed)

    def heads_divide(self, hidden_dim, num_heads, names="`num_attention_heads`, `hidden_size`"):
        """Notes a problem where the heads do not divide the features."""
        if hidden_dim % num_heads:
            self.problems.append(
                f"config keys {names}: the heads must divide the features, got {num_heads} and "
                f"{hidden_dim}"
            )

    def labels(self):
        """Names of the classes, from `id2label`; transformers' two where it is absent."""
        value = self._take("id2label", dict(zip("01", default_labels(2), strict=True)))
        self._unread -= {"label2id", "num_labels"}
        if isinstance(value, dict) and len(value) <= MAX_LABELS:
            names = [value.get(str(index)) for index in range(len(value))]
            if names and all(isinstance(name, str) for name in names):
                return names
        self.problems.append(
            f"config key `id2label` must map '0', '1', ... to names, got {str(value)[:100]}"
        )
        return default_labels(2)

    def finish(self):
        """All problems, with one for each key that was not understood."""
        unknown = (f"config key `{name}` is not understood" for name in sorted(self._unread))
        return [*self.problems, *unknown]
