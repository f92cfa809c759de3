"""One error for everything that is wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be imported exactly; the message lists every reason."""

    def __init__(self, source, problems):
        self.problems = list(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(
            f"Cannot import {source}: nothing is guessed, and {len(self.problems)} thing(s) do "
            f"not fit:{lines}"
        )
