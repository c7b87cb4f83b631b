"""What several processes of a run must do one after the other."""

import contextlib
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
    """Process 0 runs the body, then all others do: what it makes on shared storage, they find."""
    if jax.process_count() > 1 and jax.process_index() > 0:
        multihost_utils.sync_global_devices(what)
    yield
    if jax.process_count() > 1 and jax.process_index() == 0:
        multihost_utils.sync_global_devices(what)
