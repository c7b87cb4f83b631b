"""Files of a cache that appear whole or not at all, in a folder or in a bucket."""

import os
import uuid
from pathlib import Path

from etils import epath


def is_bucket(path: str | os.PathLike[str]) -> bool:
    """Says whether `path` is the address of a bucket, such as gs://bucket/cache."""
    return "://" in os.fspath(path)


def publish(file: Path, folder: Path) -> None:
    """Copies `file` into `folder` under its name, by way of a file of another name there.

    Writers of the same content, on one machine or on several, do not disturb each other: the last
    one's file stands, and there is no moment without one.

    Args:
      file: on this machine.
      folder: of this machine, mounted, or in a bucket (`epath.Path`).

    Raises:
      OSError, tf.errors.OpError: it cannot be written; what was there before is still there.
    """
    there = epath.Path(folder)
    temporary = there / f"{file.name}.{uuid.uuid4().hex}.tmp"
    try:
        epath.Path(file).copy(temporary).replace(there / file.name)
    finally:
        temporary.unlink(missing_ok=True)
