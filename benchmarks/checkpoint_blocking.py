"""`python -m benchmarks.checkpoint_blocking`: how long a save holds up the loop, and its write.

Saves a train state of about `--parameters` parameters, each with a float32 optimizer slot, a few
times while nothing else runs. Prints one JSON line; the ratio is to the write's time, and wants to
be below a tenth.
"""

import argparse
import json
import statistics
import tempfile

import jax
import jax.numpy as jnp

from archobj_jax.training.checkpoints import Checkpoints, SaveCheckpointConfig
from archobj_jax.training.state import TrainState

_ROWS = 1024


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--saves", type=int, default=4)
    parser.add_argument("--folder", default=None, help="where to write; a temporary one by default")
    flags = parser.parse_args()
    arrays = 12
    shape = (_ROWS, flags.parameters // arrays // _ROWS)
    keys = jax.random.split(jax.random.key(0), 2 * arrays)
    made = [jax.random.normal(key, shape) for key in keys]
    params = {f"w{i}": made[i] for i in range(arrays)}
    slots = {f"w{i}": made[arrays + i] for i in range(arrays)}
    blocked, written = [], []
    with (
        tempfile.TemporaryDirectory(dir=flags.folder) as folder,
        Checkpoints(folder, SaveCheckpointConfig(keep=1)) as checkpoints,
    ):
        for step in range(1, flags.saves + 1):
            state = jax.block_until_ready(TrainState(jnp.int32(step), params, slots))
            checkpoints.save(state, {})
            blocked.append(checkpoints.blocked_seconds)
            checkpoints.wait()
            written.append(checkpoints.write_seconds)
    # The first save of a process compiles the checksums and makes Orbax's threads.
    blocked_seconds, write_seconds = map(statistics.median, (blocked[1:], written[1:]))
    figures = {
        "benchmark": "checkpoint_blocking",
        "what": "seconds that a save blocks the loop, and that its write takes",
        "on": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "parameters": arrays * shape[0] * shape[1],
        "bytes": sum(x.nbytes for x in made),
        "first_blocked_seconds": round(blocked[0], 4),
        "blocked_seconds": round(blocked_seconds, 4),
        "write_seconds": round(write_seconds, 4),
        "ratio": round(blocked_seconds / write_seconds, 4),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
