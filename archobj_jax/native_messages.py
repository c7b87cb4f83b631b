"""Holds back what native libraries write to standard error while they are loaded.

TensorFlow, here only for SeqIO, tells of missing CUDA drivers before its own log level applies.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

_STDERR = 2


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hides what is written to file descriptor 2 meanwhile; an exception brings it out again."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as hidden:
        saved = os.dup(_STDERR)
        os.dup2(hidden.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            os.dup2(saved, _STDERR)
            hidden.seek(0)
            os.write(_STDERR, hidden.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, _STDERR)
            os.close(saved)
