"""`python -m tests.end_to_end.kill_many --kills 20 --steps 200`: exact resumption, shown at length.

Trains the same tiny run twice, once undisturbed and once killed with SIGKILL at random moments, of
which about half lie in the middle of a save. With `--processes 2` it is a run of that many, of two
devices each, and one of them is killed. Prints one JSON line; exits 1 if parameters, optimizer
state or metrics differ.
"""

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.end_to_end import corpus, killing, runs, several


def main() -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    flags = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["ARCHOBJ_TEST_WORK"] = folder
        corpus.write(work / "corpus")
        settings = {
            "TRAIN_STEPS": flags.steps,
            "train__train__stats_period": 1,
            "train__train__eval_period": 50,
            "checkpoints__SaveCheckpointConfig__period": 4,
        }
        lives: list[several.Hosts] = []
        starts = {
            name: functools.partial(_start, work / name, settings, flags, lives)
            for name in ("undisturbed", "killed")
        }
        killing.undisturbed(starts["undisturbed"])
        moments = killing.killed(
            starts["killed"], work / "killed", kills=flags.kills, steps=flags.steps, seed=flags.seed
        )
        checksums = {name: runs.checksum(work / name) for name in starts}
        metrics = [runs.metrics(work / name) for name in starts]
    equal = len(set(checksums.values())) == 1 and metrics[0] == metrics[1]
    figures = {
        "what": "SIGKILL and resume",
        "kills": len(moments),
        "steps": flags.steps,
        "checksums": checksums,
        "records": [len(records) for records in metrics],
        "equal": equal,
        "killed_at": moments,
        "killed": [life.victim for life in lives[1:-1]],
        "statuses": [life.statuses for life in lives[1:-1]],
        "others_ended_after": [round(life.survivors_took, 1) for life in lives[1:-1]],
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(figures))
    return 0 if equal else 1


def _start(
    model_dir: Path,
    settings: Mapping[str, object],
    flags: argparse.Namespace,
    lives: list[several.Hosts],
) -> several.Hosts:
    victim = np.random.default_rng([flags.seed, len(lives)]).integers(flags.processes)
    mesh = {"partitioner__Partitioner__fsdp": 2} if flags.processes > 1 else {}
    processes = several.start(
        runs.arguments(model_dir, **mesh, **settings),
        count=flags.processes,
        devices=1 if flags.processes == 1 else 2,
    )
    lives.append(several.Hosts(processes, int(victim)))
    return lives[-1]


if __name__ == "__main__":
    sys.exit(main())
