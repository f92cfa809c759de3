"""Keeping the log lines of TensorFlow and LiteRT off the screen; imported before they are."""

import contextlib
import os
import sys


@contextlib.contextmanager
def quiet():
    """Keeps TensorFlow's and LiteRT's log lines, which they write to descriptor 2, off the screen.

    Yields a file that still writes to the terminal.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with (
        os.fdopen(saved, "w", encoding="utf-8", errors="backslashreplace") as terminal,
        open(os.devnull, "wb") as sink,
    ):
        os.dup2(sink.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stderr.flush()
            terminal.flush()
            os.dup2(saved, 2)
