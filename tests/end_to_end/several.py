"""Several processes on this machine as the hosts of one run."""

import dataclasses
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from tests.end_to_end import runs


def start(
    arguments: Sequence[str] | Sequence[Sequence[str]],
    *,
    count: int = 2,
    devices: int = 2,
    variables: Mapping[int, Mapping[str, str]] | None = None,
) -> list[subprocess.Popen]:
    """Starts `archobj` in so many processes that join; each sees so many devices.

    Args:
      arguments: of all, or one list a process.
      count: of processes.
      devices: of each.
      variables: of the environment, by process.
    """
    each = [arguments] * count if isinstance(arguments[0], str) else arguments
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = [f"--coordinator_address=127.0.0.1:{port}", f"--process_count={count}"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "archobj_jax", *each[index], *place, f"--process_index={index}"],
            cwd=runs.ROOT,
            env={**runs.environment(devices), **(variables or {}).get(index, {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def ended(
    processes: Sequence[subprocess.Popen], *, timeout: float = 240
) -> tuple[list[int], list[tuple[str, str]]]:
    """Waits for all; returns exit statuses, and what was printed on stdout and stderr."""
    printed: list[tuple[str, str]] = [("", "")] * len(processes)

    def read(index: int) -> None:
        printed[index] = processes[index].communicate()

    readers = [threading.Thread(target=read, args=(index,)) for index in range(len(processes))]
    for reader in readers:
        reader.start()
    try:
        end = time.monotonic() + timeout
        for reader in readers:
            reader.join(max(0.0, end - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
    for reader in readers:
        reader.join()
    return [process.returncode for process in processes], printed


@dataclasses.dataclass
class Hosts:
    """Processes of which one can be killed, with the methods of a `Popen` that `killing` uses.

    Attributes:
      processes: of one run.
      victim: which of them a signal goes to.
      survivors_took: seconds from the signal until the last other one had ended.
      statuses: once all have ended.
    """

    processes: list[subprocess.Popen]
    victim: int = 0
    survivors_took: float = 0.0
    statuses: list[int] = dataclasses.field(default_factory=list)
    _signalled: float | None = None

    def poll(self) -> int | None:
        """The status of one that has ended, if any has."""
        return next((p.returncode for p in self.processes if p.poll() is not None), None)

    def send_signal(self, number: int) -> None:
        """To the victim."""
        self.processes[self.victim].send_signal(number)
        self._signalled = time.monotonic()

    def communicate(self) -> tuple[str, str]:
        """Waits for all; what they printed."""
        self.statuses, printed = ended(self.processes, timeout=3600)
        if self._signalled is not None:
            self.survivors_took = time.monotonic() - self._signalled
        return "".join(out for out, _ in printed), "".join(err for _, err in printed)

    @property
    def returncode(self) -> int:
        """That of the first that failed, or 0."""
        return next((status for status in self.statuses if status), 0)
