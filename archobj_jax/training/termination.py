"""SIGTERM and Ctrl-C as a wish to stop at the next step, agreed on by all processes."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

from archobj_jax.errors import INTERRUPTED, PREEMPTED


class Termination:
    """While entered, SIGTERM and Ctrl-C are noted; a second Ctrl-C ends the process at once.

    A second SIGTERM does not: one follows when a machine is shut down that was told of before. Of
    several processes a Ctrl-C is a SIGTERM, which all act upon.

    Attributes:
      reason: which of them was noted.
      status: the exit status that goes with it.
    """

    def __init__(self) -> None:
        self.reason, self.status = "SIGTERM", PREEMPTED
        self._noted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Termination":
        if threading.current_thread() is not threading.main_thread():
            return self
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        else:  # they agree by JAX's coordination service, which has a handler of SIGTERM
            self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._pass_on)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted = True
        if number == signal.SIGINT:
            self.reason, self.status = "Ctrl-C", INTERRUPTED
        signal.signal(signal.SIGINT, self._previous[signal.SIGINT])

    def _pass_on(self, _number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
        os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Whether to stop after `step`; the same answer on all processes."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._noted
