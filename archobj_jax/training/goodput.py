"""Goodput: the share of a run's time that its steps took, and where the rest went.

Time is wall time since the run's first life began, whatever happened in between, so that lives that
were cut off, what they had not saved and the time until the next one count (as in Google's ML
Productivity Goodput). It is kept in MODEL_DIR/goodput.json, which the first process writes.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from archobj_jax.hosts.activity import ACTIVITY
from archobj_jax.training.reporting import write_text

FILE = "goodput.json"

LOSSES = ("start", "input", "evaluation", "saving", "redone", "down")
"""Where time goes beside steps: from the begin of `train` to the first step (restoring and
compiling; not imports and joining), waiting for input, evaluations, saves, steps that a life had
not saved and another made again, and between lives."""


class Goodput:
    """The account of one run.

    Args:
      model_dir: of the run.
      step: that it starts from or goes on from.
      begun: when this life began, in seconds since the epoch.
    """

    def __init__(self, model_dir: str, step: int, begun: float):
        self._path = epath.Path(model_dir) / FILE
        self._first = jax.process_index() == 0
        self._seconds = dict.fromkeys(("steps", *LOSSES), 0.0)
        self._begun = begun
        self._until = time.time()
        self._at_saves: dict[int, float] = {step: 0.0}
        if self._first:
            self._go_on(step, begun)
        self._seconds["start"] += self._until - begun

    def _go_on(self, step: int, begun: float) -> None:
        try:
            kept: dict[str, Any] = json.loads(self._path.read_text())
            at_saves = {int(s): float(t) for s, t in kept["at_saves"].items() if int(s) <= step}
            seconds = {name: float(kept["seconds"][name]) for name in self._seconds}
            self._begun, until, finished = kept["begun"], kept["until"], kept["finished"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(
                f"{self._path} is damaged ({error!r}): goodput is counted anew.",
                file=sys.stderr,
                flush=True,
            )
            return
        self._seconds, self._at_saves = seconds, at_saves
        self._at_saves.setdefault(step, max(self._at_saves.values(), default=0.0))
        lost = self._seconds["steps"] - self._at_saves[step]
        self._seconds["steps"] -= lost
        self._seconds["redone"] += lost
        gap = max(0.0, begun - until)
        if finished:  # it was not down: more steps were asked of it
            self._begun += gap
        else:
            self._seconds["down"] += gap

    @contextlib.contextmanager
    def spending(self, loss: str) -> Iterator[None]:
        """Time spent here is lost to `loss`, one of `LOSSES`."""
        start = time.perf_counter()
        with ACTIVITY.phase(loss):
            yield
        self._seconds[loss] += time.perf_counter() - start

    def add(self, *, steps: float, waited: float) -> None:
        """Seconds of an interval: of its steps, and of waiting for their input."""
        self._seconds["steps"] += steps
        self._seconds["input"] += waited

    def saving(self, step: int) -> None:
        """What was done until `step` is going to be saved; the next life knows whether it was.

        Called before, so that a full disk is the checkpoint's to tell of.
        """
        self._at_saves[step] = self._seconds["steps"]
        self._keep(finished=False)

    def finish(self) -> None:
        """All is done: the time until somebody asks for more steps is nobody's loss."""
        self._keep(finished=True)

    def record(self) -> dict[str, float]:
        """Shares of all time so far: `goodput`, and `lost_to_…` for the rest; also kept."""
        self._keep(finished=False)
        total = max(self._until - self._begun, 1e-9)
        shares = {name: value / total for name, value in self._seconds.items()}
        goodput = shares.pop("steps")
        return {"goodput": goodput, **{f"lost_to_{name}": each for name, each in shares.items()}}

    def _keep(self, finished: bool) -> None:
        self._until = time.time()
        if not self._first:
            return
        account = {
            "begun": self._begun,
            "until": self._until,
            "finished": finished,
            "seconds": self._seconds,
            "at_saves": self._at_saves,
        }
        write_text(self._path, json.dumps(account, indent=2) + "\n")
