"""Errors that end a command with one message, and the hint that names the nearest valid name.

`archobj` prints the message of a `UserError` and exits with `USER_ERROR`; of a `MachineError`, with
`MACHINE_ERROR`. Anything else is a defect of ours and keeps its traceback.
"""

import difflib
import traceback
from collections.abc import Iterable

DEFECT = 1
"""Exit status: a defect of archobj, with its traceback."""

USER_ERROR = 2
"""Exit status: the command, a binding, a file or a record is not what it must be."""

MACHINE_ERROR = 74
"""Exit status (EX_IOERR): a disk, a shard or a checkpoint failed; what was saved is intact."""

PREEMPTED = 75
"""Exit status (EX_TEMPFAIL): stopped by SIGTERM after saving, or because another process of the run
was killed or has not come; the same command goes on."""

INTERRUPTED = 130
"""Exit status (128 + SIGINT): stopped by Ctrl-C; a training run of one process has saved before."""


class UserError(Exception):
    """What the user can mend: says what, where, what was expected, and the nearest valid name."""


class UnreachableError(UserError):
    """Data that this machine lacks what to read with; another one may have it."""


class MachineError(Exception):
    """What the machine got wrong: says what is lost (nothing saved before) and how to go on.

    Attributes:
      status: the exit status, `MACHINE_ERROR`; or `PREEMPTED`, where trying again is all there is.
    """

    def __init__(self, message: str, *, status: int = MACHINE_ERROR):
        super().__init__(message)
        self.status = status


def did_you_mean(name: str, choices: Iterable[str], *, count: int = 3) -> str:
    """Returns ` Did you mean 'x'?` for the nearest of `choices`, or an empty string."""
    near = difflib.get_close_matches(name, sorted(set(choices)), n=count, cutoff=0.6)
    if not near:
        return ""
    return " Did you mean " + " or ".join(f"'{choice}'" for choice in near) + "?"


def told(error: BaseException) -> tuple[int, str]:
    """The exit status of a command that `error` ended, and its message."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "archobj: interrupted"
    if isinstance(error, UserError):
        return USER_ERROR, f"archobj: error: {error}"
    if isinstance(error, MachineError):
        return error.status, f"archobj: error: {error}"
    return DEFECT, "".join(traceback.format_exception(error)).rstrip()
