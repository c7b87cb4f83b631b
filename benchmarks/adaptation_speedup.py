"""How many fewer tokens an adapted model needs than one from scratch (Wang et al. 2022, figure 6).

    python -m benchmarks.adaptation_speedup SCRATCH_RUN ADAPTED_RUN

Both runs were evaluated on the same held-out data, as often as the figure is to be exact
(`--gin.train.train.eval_period=10`). Tokens of the adapted run are those of its own stage: what the
checkpoint that it started from had cost is in its lineage. The last line is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from archobj_jax.study.report.speed_ups import tokens_to_reach
from archobj_jax.training import restoring
from archobj_jax.training.lineage import Stage, notation, stages_of

Curve = list[tuple[float, float]]
"""Tokens of the stage, and held-out loss."""


def curve(run: Path) -> Curve:
    """The held-out losses of a run; tokens are exact, since every step has as many."""
    stage = lineage(run)[-1]
    steps = stage.step - stage.start_step
    points = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        losses = [v for k, v in record.items() if k.startswith("eval/") and k.endswith("/loss")]
        if losses:
            share = (record["step"] - stage.start_step) / steps
            points.append((share * stage.tokens, sum(losses) / len(losses)))
    return points


def lineage(run: Path) -> Sequence[Stage]:
    """The stages of a run's newest checkpoint."""
    found = restoring.find_checkpoint(str(run))
    return stages_of(restoring.read_about(found), where=str(found))


def compared(scratch: Path, adapted: Path) -> dict[str, object]:
    """What is printed."""
    reference, ours = curve(scratch), curve(adapted)
    loss = reference[-1][1]
    tokens, needed = tokens_to_reach(reference, loss), tokens_to_reach(ours, loss)
    assert tokens is not None  # at the last point, if not before
    return {
        "benchmark": "adaptation_speedup",
        "what": "tokens from scratch for each one from another checkpoint, at equal held-out loss",
        "on": "metrics.jsonl of two runs",
        "scratch": notation(lineage(scratch)),
        "adapted": notation(lineage(adapted)),
        "scratch_final_loss": loss,
        "scratch_tokens": tokens,
        "adapted_first_loss": ours[0][1],
        "adapted_final_loss": ours[-1][1],
        "adapted_tokens_to_reach": needed,
        "ratio": tokens / needed if needed else None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scratch", type=Path, help="MODEL_DIR of the run from scratch")
    parser.add_argument("adapted", type=Path, help="MODEL_DIR of the adapted run")
    flags = parser.parse_args(arguments)
    print(json.dumps(compared(flags.scratch, flags.adapted)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
