"""Where the seconds go from a command to its work.

    python -m benchmarks.start_up

Starts `archobj train` of a tiny experiment, with its text tokenised and its step compiled before,
`--repetitions` times, and stops it when its first step is done. Then runs every command once more
often, on the checkpoint of that experiment, and with mistakes in its flags. The last line is one
JSON object: medians of seconds on the clock, and of CPU seconds of all cores, by phase; for each
command when its work begins, when it ends, and which of JAX, SeqIO and TensorFlow it imports. The
ratio is the seconds to the first step over those of `import seqio` (TensorFlow and JAX with it)
alone in a process, the part that a command that looks up a SeqIO task cannot do without.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.traced_command import NAMES

ROOT = Path(__file__).parents[1]
TINY = "--gin_file=t5x_configs/experiments/tiny/cd_flm.gin"
EVALUATED = ("--gin.MIXTURE_OR_TASK_NAME=embedded_full_lm", "--gin.NUM_EXAMPLES=2")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--no-commands", action="store_true", help="only the run's first step")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = _train(folder, "run")
        _run("archobj_jax", [*run, "--gin.TRAIN_STEPS=1"])  # tokenises, compiles, saves
        starts, imports = [], []
        for number in range(flags.repetitions):
            starts.append(_traced(folder, _train(folder, f"again_{number}")))
            imports.append(_seconds_of_import())
        commands = {} if flags.no_commands else _commands(folder, run, flags.repetitions)
    seconds = [start["seconds"] for start in starts]
    print(
        json.dumps(
            {
                "benchmark": "start_up",
                "what": "seconds from `archobj train` of a cached tiny run to its first step",
                "on": f"{len(os.sched_getaffinity(0))} cores",
                "seconds": round(statistics.median(seconds), 2),
                "cpu_seconds": _median(start["cpu_seconds"] for start in starts),
                "phases": _phases([start["phases"] for start in starts]),
                "cpu_phases": _phases([start["cpu_phases"] for start in starts]),
                "import_seqio": _median(pair[0] for pair in imports),
                "import_seqio_cpu": _median(pair[1] for pair in imports),
                "commands": commands,
                "ratio": _median(
                    start / alone[0] for start, alone in zip(seconds, imports, strict=True)
                ),
            }
        )
    )


def _commands(folder: Path, run: Sequence[str], repetitions: int) -> dict[str, dict[str, Any]]:
    """Medians of each command, by what is told of it."""
    checkpoint = f"--gin.CHECKPOINT_PATH={folder / 'run'}"
    results = folder / "results"
    generate = ("generate", checkpoint, "--prompt=Return", "--max_new_tokens=1")
    kept = f"={folder / 'xla'}"
    evaluate = (
        "evaluate", checkpoint, *EVALUATED, f"--gin.EVAL_OUTPUT_DIR={results}",
        f"--gin.evaluate.evaluate.compilation_cache_dir{kept}",
        "--gin.evaluate.evaluate.name=results", "--gin.evaluate.evaluate.resamples=2",
    )  # fmt: skip
    compared = str(results / "results_first_2.json")
    commands: Mapping[str, Sequence[str]] = {
        "generate": (*generate, f"--gin.generate.compilation_cache_dir{kept}"),
        "score": ("score", checkpoint, "--targets=a list"),
        "lineage": ("lineage", str(folder / "run")),
        "evaluate": evaluate,
        "evaluate --compare": ("evaluate", "--compare", compared, compared),
        "cache": ("cache", TINY, f"--gin.CACHE_DIR={folder / 'cache'}"),
        "train --dry_run": ("train", TINY, "--dry_run"),
        "mistake: generate with beams and a temperature": (
            *generate, "--beams=4", "--temperature=1",
        ),
        "mistake: generate without a checkpoint": ("generate", "--prompt=Return"),
        "mistake: evaluate of no example": ("evaluate", checkpoint, "--gin.NUM_EXAMPLES=0"),
        "mistake: evaluate of nothing": ("evaluate", checkpoint),
        "mistake: a misspelt macro of train": (*run, "--gin.TRAIN_STEP=3"),
        "mistake: a misspelt task of train": (*run, "--gin.MIXTURE_OR_TASK_NAME=embeded_full_lm"),
    }  # fmt: skip
    found = {}
    for what, arguments in commands.items():
        status = 2 if what.startswith("mistake") else 0
        made = [_traced(folder, arguments, status=status) for _ in range(repetitions)]
        begins = [one["work_begins"] for one in made if "work_begins" in one]
        found[what] = {
            "imports": made[0]["imports"],
            "work_begins": _median(begins) if begins else None,
            "seconds": _median(one["seconds"] for one in made),
            "cpu_seconds": _median(one["cpu_seconds"] for one in made),
        }
    return found


def _train(folder: Path, name: str) -> list[str]:
    """The command line of a run in a folder of its own, with caches that it shares."""
    return [
        "train", TINY, f"--gin.MODEL_DIR={folder / name}", f"--gin.CACHE_DIR={folder / 'cache'}",
        f"--gin.train.train.compilation_cache_dir={folder / 'xla'}",
    ]  # fmt: skip


def _run(module: str, arguments: Sequence[str], *, status: int = 0) -> None:
    """Runs a module in a process of its own.

    Raises:
      RuntimeError: its exit status is not `status`.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}, not {status}: {done.stderr}")


def _traced(folder: Path, arguments: Sequence[str], *, status: int = 0) -> dict[str, Any]:
    """The figures of one command."""
    path = folder / "figures.json"
    traced = [str(time.time()), str(path), *arguments]
    _run("benchmarks.traced_command", traced, status=status)
    return json.loads(path.read_text())


def _seconds_of_import() -> tuple[float, float]:
    """Seconds of a process that imports SeqIO and does no more, and its CPU seconds."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import seqio"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def _phases(made: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: _median(one[name] for one in made) for name in NAMES}


def _median(values: Any) -> float:
    return round(statistics.median(values), 2)


if __name__ == "__main__":
    main()
