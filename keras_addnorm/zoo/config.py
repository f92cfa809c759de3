"""Reading a checkpoint's configuration so that no key is overlooked."""

import math

_ABSENT = object()


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

    def _take(self, name, default):
        self._unread.discard(name)
        value = self._config.get(name, default)
        if value is _ABSENT:
            self.problems.append(f"config key `{name}` is missing")
        return value

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

    def must_be(self, name, *allowed):
        """A key that, where it is present, must have one of the values `allowed`."""
        value = self._take(name, allowed[0])
        if not any(type(value) is type(a) and value == a for a in allowed):
            self.problems.append(
                f"config key `{name}` is supported only as "
                f"{' or '.join(repr(a) for a in allowed)}, got {value!r}"
            )

    def finish(self):
        """All problems, with one for each key that was not understood."""
        unknown = (f"config key `{name}` is not understood" for name in sorted(self._unread))
        return [*self.problems, *unknown]
