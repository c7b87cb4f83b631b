"""A command that several processes run as one: they join, and none outlives the failure of one."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping

import jax

from archobj_jax.errors import PREEMPTED, MachineError, told
from archobj_jax.hosts import joining, maintenance
from archobj_jax.hosts.agreement import check_agreement
from archobj_jax.hosts.order import meet
from archobj_jax.hosts.watch import Watch

_EXCHANGE = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|socket closed|broken pipe|coordination service",
    re.IGNORECASE,
)
"""What an exchange that failed says, in one way or another; the watch tells whose fault it is."""

_LATE = re.compile(r"gloo.*(deadline|timed? ?out)", re.IGNORECASE)


@contextlib.contextmanager
def joined(
    flags: Mapping[str, object], asked: Mapping[str, str], *, saves_when_stopped: bool
) -> Iterator[None]:
    """Joins the other processes, if there are others, and watches them while entered.

    On TPUs it listens for the notices of Google Cloud too.

    An exception then ends this process at once, with its exit status, once the others know why: no
    wait for them at the end, since they may be waiting for this one.

    Args:
      flags: `commands.JOINING` with the values given.
      asked: what all must have been asked for alike, by name.
      saves_when_stopped: whether what runs inside asks JAX's preemption service whether to stop;
        what does not is ended by SIGTERM, all processes with it, with status 75.
    """
    timeout = flags["join_timeout"]
    assert isinstance(timeout, float)
    # Else JAX takes SIGTERM for itself, and nobody asks it.
    jax.config.update("jax_enable_preemption_service", saves_when_stopped)
    several = joining.join(flags, timeout=timeout)
    if joining.on_tpus():
        maintenance.watch()
    with Watch() as watch:
        if several and not saves_when_stopped:
            signal.signal(signal.SIGTERM, lambda *_: _stop(watch))
        try:
            check_agreement(asked, timeout=timeout)
            meet("join")
            yield
        except (Exception, KeyboardInterrupt) as error:
            if not several:
                raise
            status, message = _told(error, watch)
            print(message, file=sys.stderr, flush=True)
            watch.fail(status, message.removeprefix("archobj: error: "))
            sys.stdout.flush()
            os._exit(status)


def _stop(watch: Watch) -> None:
    print("archobj: stopped by SIGTERM", file=sys.stderr, flush=True)
    watch.fail(PREEMPTED, "it was stopped by SIGTERM")
    os._exit(PREEMPTED)


def _told(error: BaseException, watch: Watch) -> tuple[int, str]:
    exchange = isinstance(error, jax.errors.JaxRuntimeError | ValueError)
    exchange = exchange and bool(_EXCHANGE.search(str(error)))
    if exchange or isinstance(error, MachineError):  # a save fails where another dies during it
        cause = watch.cause()
        if cause is not None:  # else all others live, and the fault is ours
            status, why = cause
            again = " Run the same command again on all." if status == PREEMPTED else ""
            return status, (
                f"archobj: error: another process has ended, {why}\nThis one ends with it "
                f"({str(error).splitlines()[0]}); what was saved is intact.{again}"
            )
        if exchange and _LATE.search(str(error)):
            return PREEMPTED, (
                f"archobj: error: an exchange between processes failed, though all of them live "
                f"({str(error).splitlines()[0]}). Between CPUs the first one waits for 30 seconds "
                "only: is a machine overloaded? The same command goes on from what was saved."
            )
    return told(error)
