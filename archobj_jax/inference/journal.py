"""What of an evaluation is done, kept in files, so that a killed one goes on where it was.

Work is a list of batches that are done in their order. Each file holds the results of some of them,
one after another; a batch whose file was not finished is done again, and no other.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from archobj_jax.errors import MachineError
from archobj_jax.inference.questions import Question

Result = TypeVar("Result")

_SECONDS = 10.0
"""A file is written after so many seconds of work: at most so much is done again."""


@dataclasses.dataclass(frozen=True)
class Journal:
    """A folder of results, for one checkpoint and one way to batch.

    Attributes:
      folder: where the files lie; all processes can read it, the first one writes.
    """

    folder: epath.Path

    def complete(
        self,
        name: str,
        fingerprint: str,
        batches: int,
        work: Callable[[int], Result],
    ) -> list[Result]:
        """Does what is not yet done of some work; returns the results of all its batches.

        Args:
          name: of the work; a folder of that name holds its files.
          fingerprint: of all that the results depend on. Files of another one are not read.
          batches: their number.
          work: does one, by its number; the result can be written as JSON.

        Raises:
          MachineError: results cannot be written.
        """
        folder = self._folder(name, fingerprint)
        results: list[Any] = self._read(folder, batches)
        first, pending, started = len(results), [], time.monotonic()
        for number in range(len(results), batches):
            pending.append(work(number))
            if time.monotonic() - started > _SECONDS or number == batches - 1:
                # What is returned has been through JSON, whether it was done now or before.
                results += _write(folder, first, pending)
                first, pending, started = len(results), [], time.monotonic()
        return results

    def count(self, name: str, fingerprint: str, batches: int) -> int:
        """How many batches of some work are done; see `complete`."""
        return len(self._read(self._folder(name, fingerprint), batches))

    def _folder(self, name: str, fingerprint: str) -> epath.Path:
        return self.folder / f"{_as_file_name(name)}-{fingerprint[:12]}"

    def _read(self, folder: epath.Path, batches: int) -> list[Any]:
        """Results of the first batches. All processes return as many as the first one found."""
        results = list(_read_files(folder))[:batches]
        if jax.process_count() == 1:
            return results
        count = int(multihost_utils.broadcast_one_to_all(np.int32(len(results))))
        if len(results) < count:
            raise MachineError(
                f"process {jax.process_index()} finds {len(results)} results in {folder}, the "
                f"first process {count}; EVAL_OUTPUT_DIR must be a folder that all of them share."
            )
        return results[:count]


def fingerprint(**depends_on: Any) -> str:
    """A fingerprint of plain values, and of `Question`s and arrays among them."""
    digest = hashlib.sha256()
    _digest(digest, depends_on)
    return digest.hexdigest()


def _digest(digest: Any, value: Any) -> None:
    if isinstance(value, Question):
        for part in (value.inputs, *value.choices):
            digest.update(b"%d:" % part.size + np.asarray(part, np.int32).tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(b"%d:" % value.size + value.tobytes())
    elif isinstance(value, dict):
        for key in sorted(value):
            digest.update(f"{key}=".encode())
            _digest(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(b"[%d]" % len(value))
        for item in value:
            _digest(digest, item)
    else:
        digest.update(repr(value).encode() + b";")


def _read_files(folder: epath.Path) -> Iterator[Any]:
    """Results in order, up to the first that is missing or cannot be read."""
    expected = 0
    while (path := folder / f"{expected:09d}.json").exists():
        try:
            results = json.loads(path.read_text())
        except (ValueError, OSError):
            return  # torn: its batches are done again
        if not isinstance(results, list) or not results:
            return
        yield from results
        expected += len(results)


def _write(folder: epath.Path, first: int, results: Sequence[Any]) -> Any:
    """Writes the results of batches from `first` on; returns what one would read of them."""
    text = json.dumps(results, separators=(",", ":"), allow_nan=False)
    if jax.process_index() == 0:
        path = folder / f"{first:09d}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f"{first:09d}.json.tmp"
            unfinished.write_text(text)
            unfinished.replace(path)
        except OSError as error:
            raise MachineError(
                f"cannot write {path}: {error.strerror or error}. What was evaluated before is "
                "kept; run the same command again once there is room."
            ) from error
    return json.loads(text)


def _as_file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:100]
