"""What this process is doing, for the watch to tell when it does it for too long."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

IDLE = "waiting for somebody to type"
"""The phase that may last."""


@dataclasses.dataclass(frozen=True)
class Doing:
    """Something that is being done.

    Attributes:
      phase: half a sentence, such as `waiting for input`.
      step: the step at which; 0 before the first.
      since: when it or its present part began, by the monotonic clock in seconds.
    """

    phase: str
    step: int
    since: float


class Activity:
    """The present phase and step; one thread writes, the watch reads."""

    def __init__(self) -> None:
        self.now = Doing("starting", 0, time.monotonic())

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """While entered, `name` is what is done; the phase around it begins anew afterwards."""
        before = self.now.phase
        self._begin(name)
        try:
            yield
        finally:
            self._begin(before)

    def at(self, step: int) -> None:
        """A step begins."""
        self.now = Doing(self.now.phase, step, time.monotonic())

    def goes_on(self) -> None:
        """A part of the phase is done."""
        self._begin(self.now.phase)

    def _begin(self, phase: str) -> None:
        self.now = Doing(phase, self.now.step, time.monotonic())


ACTIVITY = Activity()
"""Of this process."""
