"""Keeps Orbax from printing the tracebacks of a failed write, which it raises to us as well."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """While entered, errors that Orbax logs are dropped, and what its closed event loops get."""
    logger, hook = logging.getLogger("absl"), sys.unraisablehook

    def unraisable(caught: Any) -> None:
        # TensorStore's writes finish after the first of them has failed and ended the loop.
        if str(caught.exc_value) != "Event loop is closed":
            hook(caught)

    logger.addFilter(_not_from_orbax)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        logger.removeFilter(_not_from_orbax)
        sys.unraisablehook = hook


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname
