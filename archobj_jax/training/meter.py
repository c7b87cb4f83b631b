"""Numbers of the steps since the last record, with times that asynchrony cannot falsify."""

import contextlib
import time
from collections.abc import Iterator, Mapping

import jax

from archobj_jax.hosts.activity import ACTIVITY
from archobj_jax.shapes import Array

_AHEAD = 2
"""Steps that may be dispatched beyond the last finished one."""


class NonFiniteError(Exception):
    """A step's loss or gradient was not finite."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class Meter:
    """Collects the metrics of steps without waiting for them, and times whole intervals.

    An interval ends by fetching the metrics of its last step, so its time holds all its work.
    Evaluations and saves run under `paused` and are not part of it.

    Args:
      step_flops: operations of a step.
      peak_flops: operations a second that all devices can do.
      tokens: trained on before this life of the run.
      skipped_steps: not finite and left out, before this life of the run.
      stop_on_nonfinite: whether `flush` raises for a step that was not finite.

    Attributes:
      working, waiting: seconds of the last interval, in steps and waiting for input, but for what
        `claim` has returned of it.
    """

    def __init__(
        self,
        *,
        step_flops: float,
        peak_flops: float,
        tokens: float,
        skipped_steps: int,
        stop_on_nonfinite: bool,
    ):
        self.tokens, self.skipped_steps = tokens, skipped_steps
        self._step_flops, self._peak_flops = step_flops, peak_flops
        self._stop_on_nonfinite = stop_on_nonfinite
        self._pending: list[tuple[int, Mapping[str, Array]]] = []
        self._last: dict[str, float] = {}
        self.working = self.waiting = 0.0
        self._begin_interval()

    def _begin_interval(self) -> None:
        self._start = time.perf_counter()
        self._paused = self._waited = 0.0
        self._claimed = (0.0, 0.0)
        self._steps = 0
        self._interval_tokens = 0.0

    @contextlib.contextmanager
    def waiting_for_input(self) -> Iterator[None]:
        """Time spent here counts as waiting for input."""
        start = time.perf_counter()
        with ACTIVITY.phase("waiting for input"):
            yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent here does not count, once the steps before are finished."""
        self.flush()
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def add(self, step: int, metrics: Mapping[str, Array]) -> None:
        """Takes the metrics of `step`; waits only if too many steps are unfinished."""
        self._pending.append((step, metrics))
        if len(self._pending) > _AHEAD:
            with ACTIVITY.phase("in a step"):
                jax.block_until_ready(self._pending[-1 - _AHEAD][1])

    def flush(self) -> None:
        """Fetches the metrics of all steps so far.

        Raises:
          NonFiniteError: one was not finite (the step left the state as it was).
        """
        pending, self._pending = self._pending, []
        with ACTIVITY.phase("in a step"):
            fetched = jax.device_get(pending)
        for step, metrics in fetched:
            self._last = {name: float(value) for name, value in metrics.items()}
            if not self._last.pop("finite"):
                if self._stop_on_nonfinite:
                    raise NonFiniteError(step)
                self.skipped_steps += 1
            tokens = self._last.pop("tokens")
            self._steps += 1
            self._interval_tokens += tokens
            self.tokens += tokens

    def claim(self) -> tuple[float, float]:
        """Seconds in steps and waiting for input since the last record or claim."""
        self.flush()
        seconds = time.perf_counter() - self._start - self._paused
        before, self._claimed = self._claimed, (seconds - self._waited, self._waited)
        return self._claimed[0] - before[0], self._claimed[1] - before[1]

    def record(self) -> dict[str, float]:
        """Ends the interval: the last step's metrics, and the interval's speeds and shares."""
        self.flush()
        seconds = max(time.perf_counter() - self._start - self._paused, 1e-9)
        working, waiting = self._claimed
        self.working, self.waiting = seconds - self._waited - working, self._waited - waiting
        flops_per_second = self._steps * self._step_flops / seconds
        record = {
            **self._last,
            "tokens_seen": self.tokens,
            "tokens_per_second": self._interval_tokens / seconds,
            "seconds_per_step": seconds / max(self._steps, 1),
            "model_flops_per_second": flops_per_second,
            "share_of_peak": flops_per_second / self._peak_flops,
            "input_wait_share": self._waited / seconds,
            "skipped_steps": self.skipped_steps,
        }
        self._begin_interval()
        return record

    @property
    def loss(self) -> float | None:
        """Loss of the last step fetched."""
        return self._last.get("loss")
