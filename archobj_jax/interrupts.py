"""Ctrl-C that Python would lose."""

import _thread
import contextlib
import sys
import threading
from collections.abc import Iterator

_AGAIN_SECONDS = 0.1


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While entered, Ctrl-C is told again where its exception could not be raised.

    Python raises `KeyboardInterrupt` wherever it is; in a destructor or a callback of a weak
    reference, of which importing and tracing have many, it is only printed, and all goes on.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # From another thread and after a while: here it would be lost again.
            threading.Timer(_AGAIN_SECONDS, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
