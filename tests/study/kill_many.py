"""`python -m tests.study.kill_many --kills 5`: a study killed at random moments ends the same.

Runs tests/study/micro.gin twice, once undisturbed and once stopped at random moments: `archobj
study run` killed alone, with its stage, its stage alone (each with SIGKILL), and told to stop by
SIGTERM, one after the other. Prints one JSON line; exits 1 if a CSV of the report differs, `OWN`
aside.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUDY = Path(__file__).with_name("micro.gin")
OWN = ("cost.csv", "commands.csv")
"""Times, and the store's folder."""
WAYS = ("run", "run and stage", "stage", "run by SIGTERM")


def main() -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    flags = parser.parse_args()
    drawn = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = Path(folder) / "undisturbed", Path(folder) / "killed"
        _finish(undisturbed)
        took = _usual_seconds(undisturbed)
        kills: list[dict[str, object]] = []
        while len(kills) < flags.kills:
            way = WAYS[len(kills) % len(WAYS)]
            made = _kill(killed, way, drawn.uniform(0.1, 1.2) * took / flags.kills)
            if made is None:
                raise RuntimeError(f"it was done before {flags.kills} kills; take another --seed")
            kills.append(made)
            print(json.dumps(made), file=sys.stderr, flush=True)
        _finish(killed)
        expected, found = _tables(undisturbed), _tables(killed)
    differ = [
        name for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name) and name not in OWN
    ]  # fmt: skip
    figures = {
        "what": "a study killed and run again",
        "kills": len(kills),
        "tables": len(expected) - len(OWN),
        "differ": differ,
    }
    print(json.dumps(figures))
    return 1 if differ else 0


def _start(store: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "archobj_jax", "study", "run", str(STUDY), f"--store={store}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)


def _finish(store: Path) -> None:
    status = _start(store).wait()
    if status != 0:
        raise RuntimeError(f"`archobj study run` ended with status {status}")


def _usual_seconds(store: Path) -> float:
    """Of a study whose data are cached already; their first use takes longer than all the rest."""
    texts = [path.read_text() for path in store.glob("stages/*/attempts.jsonl")]
    seconds = [json.loads(line)["seconds"] for text in texts for line in text.splitlines()]
    return len(seconds) * statistics.median(seconds)


def _kill(store: Path, way: str, seconds: float) -> dict[str, object] | None:
    """Runs the study for so long, then stops it; None if it was done before."""
    run = _start(store)
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(timeout=seconds)
        return None
    stages = _children(run.pid)
    done = [path.parent.name for path in store.glob("stages/*/done.json")]
    if way == "run by SIGTERM":
        run.send_signal(signal.SIGTERM)
    else:
        if way != "stage":
            run.kill()
        for stage in stages if way != "run" else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(stage, signal.SIGKILL)
    if way == "stage":  # the study tries it again; then goes on until the next kill
        time.sleep(seconds / 2)
        run.send_signal(signal.SIGTERM)
    status = run.wait()
    return {"way": way, "after_seconds": round(seconds, 1), "done": len(done), "status": status}


def _children(process: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True
    )
    return [int(line) for line in listed.stdout.split()]


def _tables(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.glob("studies/micro/report/*.csv")}


if __name__ == "__main__":
    sys.exit(main())
