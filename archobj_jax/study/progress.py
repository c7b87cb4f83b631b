"""How a stage is coming along, read from what it writes: a bar on a terminal, else lines."""

import re
import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from archobj_jax.study.graph import Stage
from archobj_jax.study.store import Store

_LINE_SECONDS = 30.0
_READ_SECONDS = 1.0
_TAIL_BYTES = 8192
_LONGEST = 100
"""Characters that are told of a line of a log."""

# Without tqdm's rate, which would count caching and compiling: the stage's records have its own.
_TRAINING_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
_EVALUATION_BAR = "[{elapsed}{postfix}]"

_DRAWN = re.compile(r"\|?[█▉▊▋▌▍▎▏]+ *\|?")
"""What a bar in a log is drawn with."""


class Progress:
    """Tells of one stage.

    Args:
      stage: the stage.
      store: where it lies.
      number: which of the study's it is, `[3/16]`.
      say: prints a line.
    """

    def __init__(self, stage: Stage, store: Store, number: str, say: Callable[[str], None]):
        self._stage, self._store, self._number, self._say = stage, store, number, say
        self._start = time.monotonic()
        self._read = self._told = self._start
        self._waiting = False
        log = store.path(stage, "log.txt")
        self._log_start = log.stat().length if log.exists() else 0  # what older attempts wrote
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        self.say(f"{self._stage.kind}: {self._stage.label}")
        training = self._stage.kind != "evaluate"
        self._bar = tqdm(
            total=self._bar_total() if training else None,
            bar_format=_TRAINING_BAR if training else _EVALUATION_BAR,
            dynamic_ncols=True,
            leave=False,
            disable=not sys.stderr.isatty(),
        )
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def waiting(self) -> None:
        """Says, once, that another process runs this stage."""
        if not self._waiting:
            self._waiting = True
            self.say(f"{self._stage.label}: another process is at it; waiting for its end")

    def update(self) -> None:
        """Reads how far the stage is, and shows it."""
        now = time.monotonic()
        if now - self._read < _READ_SECONDS:
            return
        self._read = now
        step, text = self._told_position(left=True)
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            if step is not None:
                self._bar.n = step
            self._bar.refresh()
        elif now - self._told > _LINE_SECONDS:
            self._told = now
            at = "" if step is None else f"step {step:,} of {self._bar_total():,}  "
            self.say(f"{at}{text}")

    def end(self, how: str) -> None:
        """Says how the stage ended, and what came of it."""
        seconds = time.monotonic() - self._start
        step, text = self._told_position(left=False)
        self.say(f"{how} in {seconds:,.0f} s  {text if step else ''}".rstrip())

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar is None or self._bar.disable:
            self._say(f"{self._number} {text}")
        else:
            tqdm.write(f"{self._number} {text}", file=sys.stderr)

    def _bar_total(self) -> int:
        return self._stage.total_steps - self._stage.start_step

    def _told_position(self, *, left: bool) -> tuple[int | None, str]:
        """As `_position`; what cannot be read is told, since a stage is at work for all that.

        Args:
          left: whether the time that is left is told too.
        """
        try:
            return self._position(left=left)
        except Exception as error:
            return None, f"how far it is cannot be read ({error!r})"

    def _position(self, *, left: bool) -> tuple[int | None, str]:
        """Steps of this stage, of an evaluation None; and how it stands, or what it said last."""
        if self._stage.kind == "evaluate":
            return None, self._last_said()
        records = [record for record in self._store.records(self._stage) if "loss" in record]
        if not records:
            return 0, self._last_said()
        last = records[-1]
        loss = "not finite" if last["loss"] is None else f"{last['loss']:.4f}"
        text = f"loss {loss}, {last['tokens_per_second']:,.0f} tokens/s"
        if left:
            seconds = (self._stage.total_steps - last["step"]) * last["seconds_per_step"]
            text += f", {tqdm.format_interval(seconds)} left"
        return last["step"] - self._stage.start_step, text

    def _last_said(self) -> str:
        """The last line of the log since we began, as a terminal would show it, but for bars."""
        path = self._store.path(self._stage, "log.txt")
        if not path.exists():
            return "starting"
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(self._log_start, end - _TAIL_BYTES))
            # The first and the last character may be cut off.
            written = file.read().decode(errors="replace")
        shown = (line.rstrip("\r").rpartition("\r")[2] for line in written.split("\n"))
        lines = [line for each in shown if (line := _DRAWN.sub(" ", each).strip())]
        if not lines:
            return "starting"
        return lines[-1] if len(lines[-1]) <= _LONGEST else f"{lines[-1][: _LONGEST - 1]}…"
