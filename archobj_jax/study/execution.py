"""Runs the command of one stage, as a process that outlives us and that no two run at a time."""

import contextlib
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from archobj_jax.errors import INTERRUPTED, PREEMPTED, MachineError

_POLL_SECONDS = 0.5
_MOMENT_SECONDS = 0.05


class StoppedError(BaseException):
    """We were told to stop, and the stage's process has ended.

    Attributes:
      status: that is to be ours.
      ended: exit status of the stage's process, negative for a signal.
    """

    def __init__(self, status: int, ended: int):
        super().__init__(status, ended)
        self.status, self.ended = status, ended


class BusyError(Exception):
    """Another process has the lock."""


@contextlib.contextmanager
def only_one(folder: Path, waiting: Callable[[], None] | None) -> Iterator[int]:
    """Holds the lock of a stage, and yields its file descriptor.

    A process that inherits the descriptor holds the lock as long as it lives: a stage that goes on
    after the death of `archobj study run` is waited for, and not run a second time beside itself.

    Args:
      folder: of the stage.
      waiting: called again and again while another process has the lock; None not to wait.

    Raises:
      BusyError: another process has the lock, and we are not to wait.
      MachineError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / "lock").open("w")
    except OSError as error:
        raise MachineError(f"{folder} cannot be written ({error}).") from error
    with opened as file:
        looked = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not looked:  # `is_at_work` holds it for a moment
                    looked = True
                    time.sleep(_MOMENT_SECONDS)
                    continue
                if waiting is None:
                    raise BusyError from None
                waiting()
                time.sleep(_POLL_SECONDS)
            except OSError as error:
                raise MachineError(
                    f"{folder} cannot be locked ({error}): its file system has no flock."
                ) from error
        yield file.fileno()


def is_at_work(folder: Path) -> bool:
    """Whether a process holds the lock of a stage; makes nothing, and holds it for a moment only.

    Args:
      folder: of the stage, which need not be there.
    """
    try:
        with (folder / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return False


def execute(
    arguments: Sequence[str],
    *,
    log: Path,
    lock: int,
    environment: Mapping[str, str],
    progress: Callable[[], None],
) -> int:
    """Runs `archobj` with `arguments`; returns its exit status, negative for a signal.

    Args:
      arguments: of the command line.
      log: takes what it prints.
      lock: file descriptor of the stage's lock, for the process to keep.
      environment: of the process.
      progress: called again and again while it runs; what it raises ends nothing.

    Raises:
      StoppedError: Ctrl-C or SIGTERM reached us; the process was told, each time, and has ended.
    """
    with log.open("ab") as output, _told_to_stop() as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "archobj_jax", *arguments],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C reaches it from here only, not twice
        )
        passed_on = 0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(timeout=_POLL_SECONDS)
                break
            if told[passed_on:]:  # one at a time: two that wait would reach it as one
                process.send_signal(told[passed_on])
                passed_on += 1
            with contextlib.suppress(Exception):  # a terminal that is gone: the stage goes on
                progress()
        if told:
            ours = INTERRUPTED if told[0] == signal.SIGINT else PREEMPTED
            raise StoppedError(ours, ended=status)
        return status


@contextlib.contextmanager
def _told_to_stop() -> Iterator[list[int]]:
    """Yields a list that takes the signals to stop that reach this process."""
    told: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda number, _: told.append(number))
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
