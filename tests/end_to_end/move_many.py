"""`python -m tests.end_to_end.move_many --steps 50`: one run on any number of processes, at length.

Trains the same tiny run, on a mesh of fsdp=2 and tensor=2 with evaluations and checkpoints, in one
process of four devices, in two of two, in four of one, and moved from two processes to one and to
four. Prints one JSON line with the largest difference of a loss from those of the one process;
exits 1 if one exceeds 1e-5.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.end_to_end import corpus, runs, several

_DEVICES = 4
_BOUND = 1e-5


def main() -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args().steps
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["ARCHOBJ_TEST_WORK"] = folder
        corpus.write(work / "corpus")
        moves = {
            "1": [(1, steps)],
            "2": [(2, steps)],
            "4": [(4, steps)],
            "2-1-4": [(2, steps // 3), (1, 2 * steps // 3), (4, steps)],
        }
        losses = {name: _losses(work / name, stages) for name, stages in moves.items()}
    worst = {
        name: max(abs(a - b) for a, b in zip(found, losses["1"], strict=True))
        for name, found in losses.items()
    }
    figures = {
        "what": "losses on other numbers of processes than one",
        "steps": steps,
        "first_and_last_loss": [losses["1"][0], losses["1"][-1]],
        "largest_difference": worst,
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(figures))
    return 0 if max(worst.values()) <= _BOUND else 1


def _losses(model_dir: Path, stages: Sequence[tuple[int, int]]) -> list[float]:
    """Of every step, trained by (processes, last step) one after the other."""
    for count, last in stages:
        arguments = runs.arguments(
            model_dir,
            TRAIN_STEPS=last,
            train__train__stats_period=1,
            train__train__eval_period=10,
            checkpoints__SaveCheckpointConfig__period=5,
            partitioner__Partitioner__fsdp=2,
            partitioner__Partitioner__tensor=2,
        )
        processes = several.start(arguments, count=count, devices=_DEVICES // count)
        statuses, printed = several.ended(processes, timeout=3600)
        if any(statuses):
            raise RuntimeError(f"exit statuses {statuses}:\n{printed}")
    return runs.losses(model_dir)


if __name__ == "__main__":
    sys.exit(main())
