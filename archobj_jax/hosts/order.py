"""What several processes of a run must do one after the other."""

import contextlib
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from archobj_jax.hosts.activity import ACTIVITY


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
    """Process 0 runs the body, then all others do: what it makes on shared storage, they find."""
    if jax.process_count() > 1 and jax.process_index() > 0:
        with ACTIVITY.phase(f"waiting for process 0 to {what}"):
            multihost_utils.sync_global_devices(what)
    with ACTIVITY.phase(what):
        yield
    if jax.process_count() > 1 and jax.process_index() == 0:
        multihost_utils.sync_global_devices(what)
