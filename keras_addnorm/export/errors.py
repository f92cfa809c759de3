"""What can go wrong when a model leaves Keras."""


class ExportError(RuntimeError):
    """A model that cannot be exported; nothing was written."""


class VerificationError(ExportError):
    """An exported model that is not the same model; it did not get its name."""
