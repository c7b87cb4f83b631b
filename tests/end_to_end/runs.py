"""Tiny runs of `archobj train`, in this process or in one of their own, and what they leave."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from archobj_jax import cli
from archobj_jax.training import goodput, restoring
from tests.end_to_end.corpus import VOCAB_SIZE

ROOT = Path(__file__).parents[2]
TIMES = {
    "tokens_per_second",
    "seconds_per_step",
    "model_flops_per_second",
    "share_of_peak",
    "input_wait_share",
    "save_blocked_seconds",
    "save_write_seconds",
    "goodput",
    *(f"lost_to_{name}" for name in goodput.LOSSES),
}
"""Fields of metrics.jsonl that are times or speeds; all others are exact."""

_TASKS = {"flm": "full_lm", "plm": "prefix_lm", "mlm": "span_corruption"}
_NETWORK = {"emb_dim": 32, "num_heads": 8, "head_dim": 4, "mlp_dim": 64}


def arguments(
    model_dir: Path,
    experiment: str = "cd_flm",
    *,
    gin_file: str | None = None,
    preset: str | None = None,
    **bindings: object,
) -> list[str]:
    """The command line of a run of 12 steps; `bindings` replace or add to its macros.

    `gin_file` names one of t5x_configs/runs to read after the experiment, and `preset` one of
    t5x_configs/partitioning.

    A binding's name is a macro, or module.function.parameter with `__` for dots.
    """
    work = Path(os.environ["ARCHOBJ_TEST_WORK"])
    objective = experiment.split("_")[-1]
    if experiment.startswith("mtf"):
        lengths, task = {"inputs": 64, "targets": 16}, "planets_train"
    else:
        lengths = {"inputs": 36, "targets": 9} if objective == "mlm" else {"targets": 48}
        task = f"words_{_TASKS[objective]}"
    values = {
        "MODEL_DIR": model_dir,
        "MIXTURE_OR_TASK_NAME": task,
        "MIXTURE_OR_TASK_MODULE": "tests.end_to_end.word_tasks",
        "TASK_FEATURE_LENGTHS": lengths,
        "VOCAB_SIZE": VOCAB_SIZE,
        "BATCH_SIZE": 8,
        "TRAIN_STEPS": 12,
        "CACHE_DIR": work / "cache",
        "train.train.compilation_cache_dir": work / "xla",
        "train.train.eval_period": 6,
        "train.train.eval_steps": 2,
        "train.train.stats_period": 2,
        "checkpoints.SaveCheckpointConfig.period": 3,
        **{f"network.NetworkConfig.{name}": value for name, value in _NETWORK.items()},
        **{name.replace("__", "."): value for name, value in bindings.items()},
    }
    flags = [f"--gin.{name}={value}" for name, value in values.items()]
    names = [f"experiments/tiny/{experiment}", *([f"runs/{gin_file}"] if gin_file else [])]
    ready = [f"--gin_file={ROOT}/t5x_configs/{name}.gin" for name in names]
    placed = [f"--gin_file=partitioning/{preset}.gin"] if preset else []
    return ["train", *ready, *placed, *flags]


def here(model_dir: Path, experiment: str = "cd_flm", **options: Any) -> int:
    """Runs in this process, see `arguments`; returns the exit status."""
    try:
        return cli.main(arguments(model_dir, experiment, **options))
    except SystemExit as stopped:
        return int(stopped.code or 0)


def evaluation_arguments(checkpoint: Path, output_dir: Path, **bindings: object) -> list[str]:
    """The command line of an evaluation on `planets_score_eval`; see `arguments`."""
    work = Path(os.environ["ARCHOBJ_TEST_WORK"])
    values = {
        "CHECKPOINT_PATH": checkpoint,
        "EVAL_OUTPUT_DIR": output_dir,
        "MIXTURE_OR_TASK_NAME": "planets_score_eval",
        "MIXTURE_OR_TASK_MODULE": "tests.end_to_end.word_tasks",
        "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 16},
        "evaluate.evaluate.name": "results",
        "evaluate.evaluate.compilation_cache_dir": work / "xla",
        "evaluate.evaluate.resamples": 50,
        **{name.replace("__", "."): value for name, value in bindings.items()},
    }
    flags = [
        f"--gin.{name}={str(value) if isinstance(value, Path) else repr(value)}"
        for name, value in values.items()
    ]
    return ["evaluate", *flags]


def start(
    model_dir: Path, experiment: str = "cd_flm", *, devices: int = 1, **bindings: object
) -> subprocess.Popen:
    """Starts a run in a process of its own, with its output piped."""
    return subprocess.Popen(
        [sys.executable, "-m", "archobj_jax", *arguments(model_dir, experiment, **bindings)],
        cwd=ROOT,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(devices: int) -> dict[str, str]:
    """The variables of a process that sees so many CPU devices, and compiles as this one does."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(
            int(jax.config.read("jax_disable_most_optimizations"))
        ),
    }


def metrics(model_dir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, without times and speeds."""
    lines = (model_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def losses(model_dir: Path) -> list[float]:
    """The training loss of each record."""
    return [record["loss"] for record in metrics(model_dir) if "loss" in record]


def checkpoints(model_dir: Path) -> list[int]:
    """Steps of the checkpoints, ascending."""
    found = (model_dir / "checkpoints").glob("checkpoint_*")
    return sorted(int(step) for path in found if (step := path.name.split("_")[1]).isdigit())


def checksum(model_dir: Path) -> str:
    """One checksum of all arrays of the newest checkpoint: parameters, optimizer state, step."""
    arrays = restoring.read_about(restoring.find_checkpoint(str(model_dir)))["arrays"]
    return hashlib.sha256(json.dumps(arrays, sort_keys=True).encode()).hexdigest()[:16]
