"""`python -m tests.end_to_end.kill_many --kills 20 --steps 200`: exact resumption, shown at length.

Trains the same tiny run twice, once undisturbed and once killed with SIGKILL at random moments, of
which about half lie in the middle of a save. Prints one JSON line; exits 1 if parameters, optimizer
state or metrics differ.
"""

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.end_to_end import corpus, killing, runs


def main() -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
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
        starts = {
            name: functools.partial(runs.start, work / name, **settings)
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
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(figures))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
