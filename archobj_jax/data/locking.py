"""One process of a machine at a time in a folder of the cache."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archobj_jax.data.publishing import is_bucket
from archobj_jax.errors import MachineError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process of a machine make what belongs into `folder`, while others wait for it.

    A bucket has no locks and needs none: what is published there is whole, and the same whoever
    made it.

    Raises:
      MachineError: the folder cannot be written.
    """
    if is_bucket(folder):
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise MachineError(
            f"{folder} cannot be written ({error}); free space or name another "
            "CACHE_DIR, then run the same command again"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
