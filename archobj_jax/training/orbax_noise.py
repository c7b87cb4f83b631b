"""Keeps Orbax from printing the tracebacks of a failure, which it raises to us as well."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any


def mute() -> Callable[[], None]:
    """Drops errors that Orbax logs, and what its event loops leave behind.

    Returns:
      Ends that. Not a context: after a failed write the noise comes as late as the interpreter's
      end, when an abandoned context would have been closed.
    """
    loggers = logging.getLogger("absl"), logging.getLogger("asyncio")
    hook = sys.unraisablehook

    def unraisable(caught: Any) -> None:
        # TensorStore's operations finish after the first of them has failed and ended the loop.
        if str(caught.exc_value) != "Event loop is closed":
            hook(caught)

    def unmute() -> None:
        for logger in loggers:
            logger.removeFilter(_not_of_orbax)
        sys.unraisablehook = hook

    for logger in loggers:
        logger.addFilter(_not_of_orbax)
    sys.unraisablehook = unraisable
    return unmute


def _not_of_orbax(record: logging.LogRecord) -> bool:
    if record.name == "asyncio":  # of several failed operations, Orbax asks for the first alone
        return "exception was never retrieved" not in record.getMessage()
    return f"{os.sep}orbax{os.sep}" not in record.pathname
