"""What the exit statuses of a run's processes, taken together, ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from archobj_jax.errors import INTERRUPTED, MACHINE_ERROR, PREEMPTED, USER_ERROR

RUN_AGAIN = (PREEMPTED, INTERRUPTED)
"""Statuses of `archobj` after which the same command goes on from its newest checkpoint."""


class Verdict(Enum):
    """What to do about a run that has ended."""

    DONE = "done"
    AGAIN = "run again"
    CRASHED = "run again, though not for ever"
    MEND = "needs mending"
    TELL = "a disk, a shard or a checkpoint failed"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        verdict: what to do about it.
        status: the exit status that says so, of the process that decided it.
        why: half a sentence for people.
    """

    verdict: Verdict
    status: int
    why: str


def judge(statuses: Sequence[int | None]) -> Outcome:
    """Returns the outcome of all processes; None is a process that vanished without a status.

    What a restart would only repeat (1, 2) stops it, whatever the others say. A process that was
    killed makes the others end too, with 75, so that its own end decides.

    Raises:
        ValueError: there are no processes.
    """
    if not statuses:
        raise ValueError("no process, no outcome")
    known = [status for status in statuses if status is not None]
    for status in known:
        if status == USER_ERROR:
            return Outcome(Verdict.MEND, status, "its message says what needs mending")
    for status in known:
        if 0 < status < 128 and status not in (*RUN_AGAIN, MACHINE_ERROR):
            return Outcome(Verdict.MEND, status, "a defect, or no such command; the log says which")
    if None in statuses:
        return Outcome(Verdict.AGAIN, PREEMPTED, "a worker was restarted or lost")
    for status in known:
        if status >= 128 and status not in RUN_AGAIN:
            return Outcome(Verdict.CRASHED, status, f"killed by signal {status - 128}")
    for status in known:
        if status in RUN_AGAIN:
            return Outcome(Verdict.AGAIN, status, "it was told to stop, or lost a process")
    if MACHINE_ERROR in known:
        return Outcome(Verdict.TELL, MACHINE_ERROR, "its message says what next")
    return Outcome(Verdict.DONE, 0, "trained to the last step")
