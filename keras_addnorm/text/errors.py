"""What can be wrong with a bundle."""


class BundleError(ValueError):
    """A folder is no text bundle that can be used: something is missing, changed or broken."""
