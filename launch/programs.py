"""Other programs (gcloud, xpk, kubectl, docker): run, read, or only printed."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from archobj_jax.errors import INTERRUPTED, MACHINE_ERROR, USER_ERROR, MachineError, UserError

_T = TypeVar("_T")

SILENT = 124
"""Status of an answer that did not come in time, as of coreutils' `timeout`."""


@dataclass(frozen=True)
class Answer:
    """What a program said.

    Attributes:
        status: its exit status.
        output: its standard output.
        errors: its standard error.
    """

    status: int
    output: str
    errors: str

    def reason(self) -> str:
        """What it complained of, from its error on, or its last lines."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        errors = [at for at, line in enumerate(lines) if line.startswith("ERROR")]
        told = lines[errors[-1] :][:8] if errors else lines[-5:]
        return "\n".join(told) or f"it said nothing, exit status {self.status}"


@dataclass(frozen=True)
class Programs:
    """Runs commands given as lists of arguments; no shell of this machine ever reads one.

    Attributes:
        dry_run: print every command and run none.
        answer: seconds that a program whose output is read may take, unless told otherwise.
        sleep: waits so many seconds; tests replace it.
        clock: seconds that only grow; tests replace it.
    """

    dry_run: bool = False
    answer: float = 300
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def say(self, text: str) -> None:
        """Prints a line of progress with the time of day."""
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def run(self, command: Sequence[str], failed: str) -> None:
        """Prints and runs a command, whose output is shown.

        Raises:
            MachineError: it ended with another status than 0; starts with `failed`.
        """
        print(f"+ {shlex.join(command)}", flush=True)
        if self.dry_run:
            return
        status = self._started(lambda: subprocess.run(command, stdin=subprocess.DEVNULL)).returncode
        if status:
            raise MachineError(f"{failed}: {command[0]} ended with {status}; see what it printed.")

    def ask(self, command: Sequence[str]) -> Answer | None:
        """Runs a command and reads what it says, which is not shown; nor is the command.

        Returns:
            None with --dry_run, which prints the command and does not run it.
        """
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[Sequence[str]], more: float = 0) -> list[Answer | None]:
        """As `ask`, for several commands at the same time; all are waited for.

        A command that is not done in time is killed, with the processes that it started; its
        status is then `SILENT`.

        Args:
            commands: each a list of arguments.
            more: seconds that they may take beyond `answer`.
        """
        if self.dry_run:
            for command in commands:
                print(f"+ {shlex.join(command)}", flush=True)
            return [None] * len(commands)
        seconds = self.answer + more
        processes: list[subprocess.Popen[str]] = []
        with ThreadPoolExecutor(len(commands)) as pool:
            try:
                processes += map(self._opened, commands)
                return list(pool.map(lambda process: _answer(process, seconds), processes))
            finally:
                for process in processes:
                    _kill(process)

    def pipe(self, source: Sequence[str], sink: Sequence[str], failed: str) -> None:
        """Prints and runs two commands, the second reading what the first writes.

        Raises:
            MachineError: one of them ended with another status than 0; starts with `failed`.
        """
        print(f"+ {shlex.join(source)} | {shlex.join(sink)}", flush=True)
        if self.dry_run:
            return
        with subprocess.Popen(source, stdout=subprocess.PIPE) as first:
            second = self._started(lambda: subprocess.run(sink, stdin=first.stdout))
        if first.returncode or second.returncode:
            raise MachineError(f"{failed}: see what {source[0]} and {sink[0]} printed.")

    def _opened(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        return self._started(
            lambda: subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # so that what gcloud starts, ssh above all, ends with it
            )
        )

    @staticmethod
    def _started(start: Callable[[], _T]) -> _T:
        try:
            return start()
        except FileNotFoundError as error:
            raise UserError(f"{error.filename} is not installed here, or not in PATH.") from None


def _answer(process: "subprocess.Popen[str]", seconds: float) -> Answer:
    try:
        output, errors = process.communicate(timeout=seconds)
        return Answer(process.returncode, output, errors)
    except subprocess.TimeoutExpired:
        _kill(process)
        output, errors = process.communicate()
        return Answer(SILENT, output, f"{errors}\nnot done within {seconds:g} seconds: killed")


def _kill(process: "subprocess.Popen[str]") -> None:
    """Ends a process that runs, and its group."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def reported(work: Callable[[], int], program: str) -> int:
    """Calls `work` and returns its exit status; a mistake is one message and its own status."""
    try:
        return work()
    except UserError as error:
        status = USER_ERROR
        print(f"{program}: error: {error}", file=sys.stderr)
    except MachineError as error:
        status = MACHINE_ERROR
        print(f"{program}: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        status = INTERRUPTED
        print(f"{program}: interrupted; what was started goes on without it", file=sys.stderr)
    return status
