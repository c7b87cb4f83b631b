"""How a stage is coming along, read from what it writes: a bar on a terminal, else lines."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from archobj_jax.study.graph import Stage
from archobj_jax.study.store import Store

_LINE_SECONDS = 30.0
_READ_SECONDS = 1.0


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
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        self.say(f"{self._stage.kind}: {self._stage.label}")
        training = self._stage.kind != "evaluate"
        self._bar = tqdm(
            total=self._stage.total_steps - self._stage.start_step if training else None,
            unit="step" if training else "s",
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
        step, text = self._told_position()
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            if step is not None:
                self._bar.n = step
            elif self._stage.kind == "evaluate":
                self._bar.n = round(now - self._start)
            self._bar.refresh()
        elif now - self._told > _LINE_SECONDS:
            self._told = now
            at = "" if step is None else f"step {step:,} of {self._bar_total():,}  "
            self.say(f"{at}{text}")

    def end(self, how: str) -> None:
        """Says how the stage ended, and what came of it."""
        seconds = time.monotonic() - self._start
        step, text = self._told_position()
        self.say(f"{how} in {seconds:,.0f} s  {text if step else ''}".rstrip())

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar is None or self._bar.disable:
            self._say(f"{self._number} {text}")
        else:
            tqdm.write(f"{self._number} {text}", file=sys.stderr)

    def _bar_total(self) -> int:
        return self._stage.total_steps - self._stage.start_step

    def _told_position(self) -> tuple[int | None, str]:
        """As `_position`; what cannot be read is told, since a stage is at work for all that."""
        try:
            return self._position()
        except Exception as error:
            return None, f"how far it is cannot be read ({error!r})"

    def _position(self) -> tuple[int | None, str]:
        """Steps of this stage and how it stands; of an evaluation None, and what it said last."""
        if self._stage.kind == "evaluate":
            path = self._store.path(self._stage, "log.txt")
            # The last character may be cut off.
            log = path.read_bytes().decode(errors="replace") if path.exists() else ""
            lines = [line.strip() for line in log.split("\n") if line.strip()]
            return None, lines[-1] if lines else "starting"
        records = [record for record in self._store.records(self._stage) if "loss" in record]
        if not records:
            return 0, "starting"
        last = records[-1]
        loss = "not finite" if last["loss"] is None else f"{last['loss']:.4f}"
        text = f"loss {loss}, {last['tokens_per_second']:,.0f} tokens/s"
        return last["step"] - self._stage.start_step, text
