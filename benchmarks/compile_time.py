"""How the compile time of the train step grows with the number of layers, and how often it is paid.

    python -m benchmarks.compile_time

Compiles the train step of a causal decoder and of an encoder-decoder with 2 and with 24 layers (24
+ 24) in turns, in this process, without a persistent cache; the network is narrow, which changes
nothing. Then trains a tiny model for a few steps in a process of its own, and once more. The last
line is one JSON object: medians of seconds, tracing and lowering apart from XLA's compilation; the
ratio is that of 24 layers to 2, all of it; T5X's is beside it. Of the two runs: how many programs
that take half a second each compiled, how many it found compiled, and how many were made of the
train step and of the evaluation's, one each if nothing is compiled twice.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from archobj_jax import cli
from archobj_jax.architectures.architecture import Architecture, CausalDecoder, EncoderDecoder
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.trainer import Trainer

NETWORK = NetworkConfig(
    vocab_size=8192,
    emb_dim=128,
    num_heads=4,
    head_dim=32,
    mlp_dim=256,
    num_decoder_layers=2,
    num_encoder_layers=2,
)
FEW, MANY = 2, 24
LENGTHS: dict[str, tuple[type[Architecture], dict[str, int]]] = {
    "CD": (CausalDecoder, {"targets": 128}),
    "ED": (EncoderDecoder, {"inputs": 128, "targets": 32}),
}
T5X_RATIO = {"CD": 5.0, "ED": 8.7}
"""T5X (commit cc342d41), whose layers are unrolled, on two cores."""

_COMPILED = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"
_MISS = "/jax/compilation_cache/cache_misses"
_RUN = (
    "train",
    "--gin_file=t5x_configs/experiments/tiny/cd_flm.gin",
    "--gin.TRAIN_STEPS=6",
    "--gin.train.train.eval_period=3",
    "--gin.checkpoints.SaveCheckpointConfig.period=2",
)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--count", metavar="FOLDER", help="only train there, and count")
    flags = parser.parse_args()
    if flags.count is not None:
        print(json.dumps(_counted(Path(flags.count))))
        return
    figures = {name: _measured(name, flags.repetitions) for name in LENGTHS}
    with tempfile.TemporaryDirectory() as folder:
        runs = [_counted_apart(folder) for _ in range(2)]
    print(
        json.dumps(
            {
                "benchmark": "compile_time",
                "what": f"compiling the train step at {MANY} layers, to {FEW}",
                "on": f"{jax.device_count()} {jax.devices()[0].device_kind}",
                "figures": figures,
                "runs": dict(zip(("first", "second"), runs, strict=True)),
                "ratio": {name: figure["ratio"] for name, figure in figures.items()},
                "t5x_ratio": T5X_RATIO,
            }
        )
    )


def _measured(name: str, repetitions: int) -> dict[str, Any]:
    _compiled(name, FEW)  # what a process does only once
    made: dict[int, list[dict[str, float]]] = {FEW: [], MANY: []}
    for _ in range(repetitions):
        for layers in made:
            made[layers].append(_compiled(name, layers))

    def median(layers: int, figure: str) -> float:
        return statistics.median(one[figure] for one in made[layers])

    def ratio(figure: str) -> float:
        return statistics.median(
            many[figure] / few[figure] for few, many in zip(made[FEW], made[MANY], strict=True)
        )

    figure = {
        "seconds": {n: {key: round(median(n, key), 3) for key in made[n][0]} for n in made},
        "ratio": round(ratio("seconds"), 3),
        "cpu_ratio": round(ratio("cpu_seconds"), 3),
        "xla_ratio": round(ratio("xla"), 3),
    }
    print(json.dumps({"architecture": name, **figure}), flush=True)
    return figure


def _compiled(name: str, layers: int) -> dict[str, float]:
    """Seconds to compile a train step that nothing of was compiled before."""
    architecture, lengths = LENGTHS[name]
    network = replace(NETWORK, num_decoder_layers=layers, num_encoder_layers=layers)
    partitioner = Partitioner()
    rules = partitioner.logical_axis_rules(partitioner.mesh(jax.devices()[:1]))
    data = DatasetConfig("", lengths, "train", batch_size=8)
    trainer = Trainer(Adafactor(), FactorSchedule())
    prepared = PreparedStep.of(architecture(network), data, trainer, rules)
    jax.clear_caches()
    xla: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            xla.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    start, cpu = time.perf_counter(), time.process_time()
    prepared.compiled(seed=0)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    jax.monitoring.unregister_event_duration_listener(listen)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "xla": sum(xla),
        "tracing_and_lowering": seconds - sum(xla),
    }


def _counted(folder: Path) -> dict[str, int]:
    """Trains in `folder`, and says how often a program was compiled or found compiled."""
    run = folder / f"run_{sum(1 for _ in folder.glob('run_*'))}"
    found: Counter[str] = Counter()
    jax.monitoring.register_event_listener(lambda event, **_: found.update([event]))
    steps = _Steps()
    logging.getLogger("jax._src.dispatch").addHandler(steps)
    jax.config.update("jax_log_compiles", True)
    # The messages are counted, not printed.
    logging.getLogger("jax").handlers = [logging.NullHandler()]
    logging.getLogger("jax").propagate = False
    status = cli.main(
        [
            *_RUN,
            f"--gin.MODEL_DIR={run}",
            f"--gin.CACHE_DIR={folder / 'cache'}",
            f"--gin.train.train.compilation_cache_dir={folder / 'xla'}",
        ]
    )
    if status:
        raise RuntimeError(f"the run ended with exit status {status}")
    return {
        "train_and_eval_steps": steps.count,
        "programs_compiled": found[_MISS],
        "programs_found": found[_HIT],
    }


class _Steps(logging.Handler):
    """Counts the programs of the train step and of the evaluation's, both named `step`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Looks at one message."""
        self.count += record.getMessage().startswith("Finished XLA compilation of jit(step)")


def _counted_apart(folder: str) -> dict[str, int]:
    """The same in a process of its own, whose caches are new."""
    command: Sequence[str] = [sys.executable, "-m", "benchmarks.compile_time", "--count", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
