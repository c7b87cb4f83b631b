"""`archobj demo`: trains a tiny causal decoder and shows what it has learnt."""

import json
import os
import sys
from pathlib import Path

from archobj_jax import config
from archobj_jax.commands import TINY
from archobj_jax.inference.decoding import Generation
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.sampling import Sampling
from archobj_jax.training import train
from archobj_jax.training.reporting import METRICS_FILE, TENSORBOARD_DIR

PROMPTS = ("Return the", "If the argument is", "This module provides", "Raises")
GENERATION = Generation(sampling=Sampling(temperature=0.7, top_k=40))


def demo(*, model_dir: str = "runs/demo") -> None:
    """Trains `TINY` into `model_dir`, then prints its losses and some continuations.

    Run again, it goes on from the newest checkpoint: at the end, that is only the printing.
    """
    config.parse([TINY], [f"MODEL_DIR={model_dir}"], functions=[train.train])
    config.call(train.train, operative_config=config.operative_config_str)
    first, last, held_out = _losses(Path(model_dir) / METRICS_FILE)
    print(
        f"\nloss {first['loss']:.3f} at step {first['step']}, {last['loss']:.3f} at step "
        f"{last['step']}; held-out loss {held_out:.3f}\n"
    )
    texts = Predictor.from_checkpoint(model_dir).generate(PROMPTS, GENERATION)
    for prompt, (made,) in zip(PROMPTS, texts, strict=True):
        print(f"  {prompt} … {made.text}\n")
    for what, name in (
        ("metrics", METRICS_FILE),
        ("checkpoints", "checkpoints"),
        ("TensorBoard", TENSORBOARD_DIR),
    ):
        print(f"{what:12} {os.path.join(model_dir, name)}")
    archobj = os.path.relpath(Path(sys.executable).with_name("archobj"))
    print(f"\nGo on with: {archobj} generate --gin.CHECKPOINT_PATH={model_dir} --prompt='Return a'")


def _losses(path: Path) -> tuple[dict, dict, float]:
    """First and last training record, and the last held-out loss."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    training = [record for record in records if "loss" in record]
    held_out = [
        value
        for record in records
        for name, value in record.items()
        if name.startswith("eval/") and name.endswith("/loss")
    ]
    return training[0], training[-1], held_out[-1]
