"""Progress of a long job: a bar on a terminal, a line now and then anywhere else."""

import sys
import time

from tqdm import tqdm

from archobj_jax.hosts.activity import ACTIVITY

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows what is done of a whole, and documents and tokens so far; a context manager.

    Args:
      title: what is being made.
      total: number of shards, or what else `unit` names.
      done: how many of them an earlier run left finished.
      unit: what is counted.
      quiet: whether to show nothing, of what will be done in no time.
    """

    def __init__(
        self,
        title: str,
        total: int,
        done: int = 0,
        *,
        unit: str = "shards",
        quiet: bool = False,
    ):
        self._title, self._total, self._done = title, total, done
        self._unit, self._quiet = unit, quiet
        self._documents = self._tokens = 0
        self._start = self._printed = time.monotonic()
        self._bar = tqdm(total=total, initial=done, desc=title, unit=f" {unit}", file=sys.stderr,
                         disable=quiet or not sys.stderr.isatty())  # fmt: skip

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, documents: int, tokens: int) -> None:
        """Counts further documents and tokens."""
        ACTIVITY.goes_on()
        self._documents += documents
        self._tokens += tokens
        self._bar.set_postfix_str(self._counts(), refresh=False)
        self._bar.update(0)
        self._line_now_and_then()

    def finish(self, count: int = 1) -> None:
        """Counts `count` more of the total as done."""
        ACTIVITY.goes_on()
        self._done += count
        self._bar.update(count)
        if self._done == self._total:
            self._line()
        else:
            self._line_now_and_then()

    def _line_now_and_then(self) -> None:
        if time.monotonic() - self._printed > _SECONDS_BETWEEN_LINES:
            self._line()

    def _counts(self) -> str:
        rate = self._tokens / max(time.monotonic() - self._start, 1e-9)
        return f"{self._documents:,} documents, {self._tokens:,} tokens, {rate:,.0f} tokens/s"

    def _line(self) -> None:
        self._printed = time.monotonic()
        if self._bar.disable and not self._quiet:
            counts = f", {self._counts()}" if self._documents else ""
            line = f"{self._title}: {self._done:,} of {self._total:,} {self._unit}{counts}"
            print(line, file=sys.stderr, flush=True)
