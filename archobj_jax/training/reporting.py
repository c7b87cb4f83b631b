"""What a run tells: metrics.jsonl, TensorBoard, and a progress bar or plain lines."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
from etils import epath
from tqdm import tqdm

from archobj_jax.errors import MachineError
from archobj_jax.training.tensorboard import TENSORBOARD_DIR, Events

METRICS_FILE = "metrics.jsonl"


def write_text(path: epath.Path, text: str) -> None:
    """Writes a whole file, or leaves the one that was there.

    Raises:
      MachineError: it cannot be written.
    """
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_text(text)
        temporary.replace(path)


@contextlib.contextmanager
def _writing(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"{path} cannot be written ({error}); the checkpoints beside it are intact. Free space "
            "or mend the storage, then run the same command again: it goes on from the newest."
        ) from error


class Report:
    """Writes the metrics of a run; on processes other than the first it writes nothing.

    A run that is resumed at step n drops what was recorded after n, by a life that was cut off: the
    file then reads as if the run had never stopped. One that is not drops all.

    Raises:
      MachineError: from every method, if a file cannot be written.
    """

    def __init__(self, model_dir: str, *, start_step: int, total_steps: int, resumed: bool):
        self._first = jax.process_index() == 0
        if not self._first:
            return
        self._folder = epath.Path(model_dir)
        path = self._folder / METRICS_FILE
        with _writing(path):
            kept = "".join(_kept_lines(path, start_step)) if resumed else ""
        write_text(path, kept)
        with _writing(self._folder):
            self._file = path.open("a")
            self._events = Events(self._folder, start_step)
        self._bar = tqdm(
            total=total_steps,
            initial=start_step,
            unit="step",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self._total = total_steps
        self._printed = -math.inf

    def record(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one object to metrics.jsonl, null for what is not finite, and to TensorBoard."""
        if not self._first:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with _writing(self._folder / METRICS_FILE):
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
            self._file.flush()
        with _writing(self._folder / TENSORBOARD_DIR):
            for name, value in metrics.items():
                self._events.scalar(name if "/" in name else f"train/{name}", value, step)

    def flush(self) -> None:
        """Writes out what a run that goes on from here will not record again."""
        if self._first:
            with _writing(self._folder / TENSORBOARD_DIR):
                self._events.flush()

    def progress(self, step: int, text: str, *, force: bool = False) -> None:
        """Moves the bar to `step`; without a terminal, prints a line at most every ten seconds."""
        if not self._first:
            return
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        elif force or step == self._total or time.monotonic() - self._printed > 10.0:
            self._printed = time.monotonic()
            print(f"step {step:,} of {self._total:,}  {text}".rstrip(), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Prints a line beside the bar."""
        if self._first:
            tqdm.write(text, file=sys.stderr)

    def __enter__(self) -> "Report":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._first:
            return
        self._bar.close()
        try:
            for file in (self._events, self._file):
                with _writing(self._folder):
                    file.close()
        except MachineError:
            if error is None:  # else what ended the run is the message
                raise


def is_evaluated(model_dir: str, step: int) -> bool:
    """Whether metrics.jsonl has an evaluation of a step."""
    found = json_lines(epath.Path(model_dir) / METRICS_FILE)
    return any(record["step"] == step and "loss" not in record for record, _ in found)


def _kept_lines(path: epath.Path, step: int) -> Iterator[str]:
    return (line for record, line in json_lines(path) if record["step"] <= step)


def json_lines(path: epath.Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The records of a file of JSON lines such as metrics.jsonl, each with its line."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        # The last line of a killed run may be cut off.
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line), line + "\n"
