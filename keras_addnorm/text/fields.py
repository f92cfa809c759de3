"""Values of a JSON file that may hold anything, each checked when it is looked up."""

from keras_addnorm.text.errors import BundleError

BROKEN = "The bundle is broken or was changed: copy or make it again."
_MISSING = object()
_NAMES = {str: "a string", int: "a whole number", bool: "true or false", dict: "an object"}


class Fields:
    """A JSON object, whose values are looked up with the type that they must have.

    Args:
        path: of the file, for errors.
        where: of the object in the file, for errors.
        value: what the file holds there.

    Raises:
        BundleError: if `value` is no object; as do the methods, on any other value than asked for.
    """

    def __init__(self, path, where, value):
        self._path, self._where = path, where
        if not isinstance(value, dict):
            raise self.error(f"must be {_NAMES[dict]}, not {_shown(value)}")
        self._value = value

    def error(self, message):
        """A BundleError about this object."""
        where = f": {self._where}" if self._where else ""
        return BundleError(f"{self._path}{where} {message}. {BROKEN}")

    def names(self):
        """The names in the object."""
        return list(self._value)

    def get(self, name, kind, optional=False):
        """A value of type `kind`; None where it is null and `optional`."""
        value = self._value.get(name, _MISSING)
        if value is None and optional:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(name, _NAMES[kind])
        return value

    def whole(self, name, low, high, optional=False):
        """A whole number from `low` to `high`; None where it is null and `optional`."""
        value = self.get(name, int, optional)
        if value is not None and not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}")
        return value

    def section(self, name):
        """An object in it, as `Fields`."""
        return Fields(self._path, self._below(name), self.get(name, dict))

    def sections(self, name, most):
        """The objects of a list of 1 to `most`, as `Fields`."""
        values = self._value.get(name)
        if not isinstance(values, list) or not 0 < len(values) <= most:
            raise self._wrong(name, f"a list of 1 to {most} objects")
        return [
            Fields(self._path, f"{self._below(name)}[{i}]", value) for i, value in enumerate(values)
        ]

    def sizes(self, name):
        """A list of whole numbers and nulls, as a tuple."""
        values = self._value.get(name)
        ok = isinstance(values, list) and len(values) <= 8
        if not ok or not all(v is None or type(v) is int for v in values):
            raise self._wrong(name, "a list of whole numbers and nulls")
        return tuple(values)

    def ids(self, name, most):
        """A list of at most `most` whole numbers."""
        values = self._value.get(name)
        ok = isinstance(values, list) and len(values) <= most
        if not ok or not all(type(v) is int for v in values):
            raise self._wrong(name, "a list of whole numbers")
        return values

    def _below(self, name):
        return f"{self._where}.{name}" if self._where else name

    def _wrong(self, name, rule):
        value = self._value.get(name, _MISSING)
        found = "missing" if value is _MISSING else _shown(value)
        return Fields(self._path, self._below(name), {}).error(f"must be {rule}, not {found}")


def _shown(value):
    return ascii(value)[:60]
