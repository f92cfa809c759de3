"""Entry point of the `keras-addnorm` command, and what must happen before the package is imported.

Importing the package loads Keras and TensorFlow, which takes seconds and writes log lines to the
terminal. This module lies beside the package, so that the command can parse its arguments and
silence those lines first: it runs `keras_addnorm/cli.py` without importing `keras_addnorm`.
"""

import contextlib
import importlib.util
import os
import pathlib
import runpy
import sys
import tempfile


def main():
    """Runs the command line; returns its exit code."""
    package = importlib.util.find_spec("keras_addnorm")  # Finds it without importing it.
    path = pathlib.Path(package.origin).with_name("cli.py")
    return runpy.run_path(str(path))["main"]()


@contextlib.contextmanager
def quiet():
    """Keeps TensorFlow's and LiteRT's log lines, which they write to descriptor 2, off the screen.

    Yields a file that still writes to the terminal.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink, os.fdopen(saved, "w", encoding="utf-8") as terminal:
        os.dup2(sink.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stderr.flush()
            terminal.flush()
            os.dup2(saved, 2)
