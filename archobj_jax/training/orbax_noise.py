"""Keeps Orbax from printing the tracebacks of a failure, which it raises to us as well."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """While entered, errors that Orbax logs are dropped, and what its event loops leave behind."""
    loggers = logging.getLogger("absl"), logging.getLogger("asyncio")
    hook = sys.unraisablehook

    def unraisable(caught: Any) -> None:
        # TensorStore's operations finish after the first of them has failed and ended the loop.
        if str(caught.exc_value) != "Event loop is closed":
            hook(caught)

    for logger in loggers:
        logger.addFilter(_not_of_orbax)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_not_of_orbax)
        sys.unraisablehook = hook


def _not_of_orbax(record: logging.LogRecord) -> bool:
    if record.name == "asyncio":  # of several failed operations, Orbax asks for the first alone
        return "exception was never retrieved" not in record.getMessage()
    return f"{os.sep}orbax{os.sep}" not in record.pathname
