"""One process of a machine at a time in a folder of the cache."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archobj_jax.errors import MachineError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process of a machine make what belongs into `folder`, while others wait for it.

    Raises:
      MachineError: the folder cannot be written.
    """
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
