"""What a run tells: metrics.jsonl, TensorBoard, and a progress bar or plain lines."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from tensorboardX import SummaryWriter
from tqdm import tqdm

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIR = "tensorboard"


class Report:
    """Writes the metrics of a run; on processes other than the first it writes nothing.

    A run that goes on from step n drops what was recorded after n, by a life that was cut off:
    the file then reads as if the run had never stopped.
    """

    def __init__(self, model_dir: str, *, start_step: int, total_steps: int):
        self._first = jax.process_index() == 0
        if not self._first:
            return
        folder = epath.Path(model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS_FILE
        self._keep_until(start_step)
        self._file = self._path.open("a")
        self._tensorboard = SummaryWriter(
            str(folder / TENSORBOARD_DIR), purge_step=start_step + 1 if start_step else None
        )
        self._bar = tqdm(
            total=total_steps,
            initial=start_step,
            unit="step",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self._total = total_steps
        self._printed = -math.inf

    def _keep_until(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text().splitlines():
            # The last line of a killed run may be cut off.
            with contextlib.suppress(json.JSONDecodeError):
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(kept))
        temporary.replace(self._path)

    def record(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one object to metrics.jsonl, and its numbers to TensorBoard."""
        if not self._first:
            return
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._tensorboard.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def progress(self, step: int, text: str, *, force: bool = False) -> None:
        """Moves the bar to `step`; without a terminal, prints a line at most every ten seconds."""
        if not self._first:
            return
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        elif force or step == self._total or time.monotonic() - self._printed > 10.0:
            self._printed = time.monotonic()
            print(f"step {step:,} of {self._total:,}  {text}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Prints a line beside the bar."""
        if self._first:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Closes files and the bar."""
        if self._first:
            self._bar.close()
            self._tensorboard.close()
            self._file.close()
