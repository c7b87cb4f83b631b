"""Other programs (gcloud, xpk, kubectl, docker): run, read, or only printed."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from archobj_jax.errors import INTERRUPTED, MACHINE_ERROR, USER_ERROR, MachineError, UserError

_T = TypeVar("_T")


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
        """The last lines of what it complained of, for a message."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return "\n".join(lines[-5:]) or f"it said nothing, exit status {self.status}"


@dataclass(frozen=True)
class Programs:
    """Runs commands given as lists of arguments; no shell of this machine ever reads one.

    Attributes:
        dry_run: print every command and run none.
        sleep: waits so many seconds; tests replace it.
        clock: seconds that only grow; tests replace it.
    """

    dry_run: bool = False
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
        """Runs a command that changes nothing; None with --dry_run, which prints it."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[Sequence[str]]) -> list[Answer | None]:
        """As `ask`, for several commands at the same time; all are waited for."""
        if self.dry_run:
            for command in commands:
                print(f"+ {shlex.join(command)}", flush=True)
            return [None] * len(commands)
        processes = [self._opened(command) for command in commands]
        texts = [process.communicate() for process in processes]
        return [
            Answer(process.returncode, output, errors)
            for process, (output, errors) in zip(processes, texts, strict=True)
        ]

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
            )
        )

    @staticmethod
    def _started(start: Callable[[], _T]) -> _T:
        try:
            return start()
        except FileNotFoundError as error:
            raise UserError(f"{error.filename} is not installed here, or not in PATH.") from None


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
