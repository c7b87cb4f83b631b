"""Progress of a long job: a bar on a terminal, a line now and then anywhere else."""

import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows shards done, and documents and tokens so far; a context manager.

    Args:
      title: what is being made.
      total: number of shards.
      done: how many of them an earlier run left finished.
    """

    def __init__(self, title: str, total: int, done: int):
        self._title, self._total, self._done = title, total, done
        self._documents = self._tokens = 0
        self._start = self._printed = time.monotonic()
        self._bar = tqdm(total=total, initial=done, desc=title, unit=" shards", file=sys.stderr,
                         disable=not sys.stderr.isatty())  # fmt: skip

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, documents: int, tokens: int) -> None:
        """Counts further documents and tokens."""
        self._documents += documents
        self._tokens += tokens
        self._bar.set_postfix_str(self._counts(), refresh=False)
        self._bar.update(0)
        if time.monotonic() - self._printed > _SECONDS_BETWEEN_LINES:
            self._line()

    def finish_shard(self) -> None:
        """Counts one more shard as done."""
        self._done += 1
        self._bar.update()
        if self._done == self._total:
            self._line()

    def _counts(self) -> str:
        rate = self._tokens / max(time.monotonic() - self._start, 1e-9)
        return f"{self._documents:,} documents, {self._tokens:,} tokens, {rate:,.0f} tokens/s"

    def _line(self) -> None:
        self._printed = time.monotonic()
        if self._bar.disable:
            counts = f"{self._title}: {self._done} of {self._total} shards, {self._counts()}"
            print(counts, file=sys.stderr, flush=True)
