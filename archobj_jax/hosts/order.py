"""What several processes of a run must do one after the other, or at one moment."""

import contextlib
import itertools
from collections.abc import Iterator

import jax
from jax._src import distributed  # no public name gives the coordination service's client

from archobj_jax.hosts.activity import ACTIVITY

_DAY_MS = 24 * 60 * 60 * 1000
_MEETINGS = itertools.count()


def meet(what: str) -> None:
    """Waits until all processes are here: half a sentence says what they do before.

    It goes through the coordination service. A first exchange of arrays would not do: between CPUs
    it gives up on a process that is 30 seconds late. The watch ends the wait for one that died.
    """
    client = distributed.global_state.client
    if client is None:
        return
    with ACTIVITY.phase(f"waiting for the others to {what}"):
        client.wait_at_barrier(f"archobj {next(_MEETINGS)} {what}", _DAY_MS)


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
    """Process 0 runs the body, then all others do: what it makes on shared storage, they find."""
    first = jax.process_index() == 0
    if not first:
        meet(what)
    with ACTIVITY.phase(what):
        yield
    if first:
        meet(what)
