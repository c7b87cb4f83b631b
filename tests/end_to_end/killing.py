"""Disturbs runs: SIGKILL to their processes again and again, or something done at one batch."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from archobj_jax.training.placement import Placement


class Life(Protocol):
    """A life of a run: a `subprocess.Popen`, or a `several.Hosts`."""

    @property
    def returncode(self) -> int | Any:
        """The exit status, once it has ended."""

    def poll(self) -> int | None:
        """The exit status if it has ended."""

    def send_signal(self, sig: int, /) -> None:
        """Sends a signal to it."""

    def communicate(self) -> tuple[Any, Any]:
        """Waits for its end; what was printed."""


MOMENTS = ("step", "save", "start")
"""While steps run, in the middle of a save, while the process starts."""


def on_batch(monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[Any], Any]) -> None:
    """Calls `do` with the `number`th batch (from 1) that a run puts on the mesh."""
    put = Placement.put
    count = 0

    def patched(self: Placement, rows: Any) -> Any:
        nonlocal count
        count += 1
        return put(self, do(rows) if count == number else rows)

    monkeypatch.setattr(Placement, "put", patched)


def undisturbed(start: Callable[[], Life]) -> None:
    """Runs to the end.

    Raises:
      RuntimeError: the exit status is not 0; holds what was printed.
    """
    process = start()
    _, printed = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}:\n{printed}")


def killed(
    start: Callable[[], Life], model_dir: Path, *, kills: int, steps: int, seed: int
) -> list[str]:
    """Kills `kills` lives at random moments, then lets the last one end.

    Returns:
      The moment of each kill, with the newest checkpoint then.
    """
    rng = np.random.default_rng(seed)
    # Ascending targets: each life makes some way before it is killed.
    targets = np.sort(rng.integers(1, steps - 4, kills))
    moments = []
    for number, target in enumerate(targets):
        moment = MOMENTS[number % 2] if rng.random() < 0.9 else MOMENTS[2]
        process = start()
        if not _wait_for(moment, process, model_dir, int(target), rng):
            raise RuntimeError(f"ended before it could be killed:\n{process.communicate()[1]}")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        moments.append(f"{moment}@{newest(model_dir)}{'+' if saving(model_dir) else ''}")
    undisturbed(start)
    return moments


def newest(model_dir: Path) -> int:
    """The newest step with a committed checkpoint, or 0."""
    found = (model_dir / "checkpoints").glob("checkpoint_*")
    return max((int(s) for p in found if (s := p.name.split("_")[1]).isdigit()), default=0)


def saving(model_dir: Path) -> bool:
    """Whether a checkpoint is half-written."""
    return any((model_dir / "checkpoints").glob("*tmp*"))


def _wait_for(
    moment: str,
    process: Life,
    model_dir: Path,
    target: int,
    rng: np.random.Generator,
) -> bool:
    """Waits for the moment to kill; false if the process ended before."""
    if moment == "start":
        time.sleep(rng.uniform(0.0, 6.0))
        return process.poll() is None
    left_over = set((model_dir / "checkpoints").glob("*tmp*"))
    metrics = model_dir / "metrics.jsonl"
    # Records that the life before left beyond the newest checkpoint are none of this life's.
    opened = metrics.stat().st_ino if metrics.exists() else None
    while process.poll() is None:
        now = set((model_dir / "checkpoints").glob("*tmp*")) - left_over
        fresh = metrics.exists() and metrics.stat().st_ino != opened
        if moment == "save" and now and newest(model_dir) + 20 > target:
            time.sleep(rng.uniform(0.0, 0.1))
            return process.poll() is None
        if moment == "step" and fresh and _recorded(metrics) >= target:
            time.sleep(rng.uniform(0.0, 0.1))
            return process.poll() is None
        time.sleep(0.002)
    return False


def _recorded(metrics: Path) -> int:
    return metrics.read_bytes().count(b'"learning_rate"')
