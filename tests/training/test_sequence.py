"""Activations sharded by length: the same losses, less memory, and no more than keys gathered."""

import functools
import re

import jax
import numpy as np
import pytest

from archobj_jax.data.loader import DatasetConfig
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.trainer import Trainer
from tests import tiny

LENGTH = 2048
WIDE = tiny.network(vocab_size=512, emb_dim=64, mlp_dim=256, head_dim=32)


def losses(symbol: str, devices: int, **mesh: int) -> list[float]:
    """Of five steps on four packed rows, in several chunks."""
    architecture = tiny.SYMBOLS[symbol](tiny.NETWORK)
    blueprint = tiny.blueprint(architecture, devices, **mesh)
    trainer = Trainer(Adafactor(), FactorSchedule(), Loss(chunk_bytes=1000))
    axes = ("batch", "length")
    batch = {
        name: jax.device_put(np.concatenate([x, x[::-1]]), blueprint.rules.sharding(x.shape, axes))
        for name, x in tiny.two_rows(architecture).items()
    }
    state, made = blueprint.init(trainer.transform(blueprint), 0), []
    step = jax.jit(trainer.train_step(blueprint, 0))
    for _ in range(5):
        state, metrics = step(state, batch)
        made.append(float(metrics["loss"]))
    return made


@pytest.mark.parametrize("symbol", ["CD", "ND", "ED"])
def test_parts_of_the_length_give_the_losses_of_one_device(symbol: str):
    expected = losses(symbol, 1)
    assert expected[-1] < expected[0] - 0.5
    made = losses(symbol, 4, data=1, sequence=2, fsdp=2)
    assert made == pytest.approx(expected, abs=1e-5, rel=0)


@functools.cache
def compiled(devices: int, sequence: int) -> jax.stages.Compiled:
    """The step of an encoder-decoder on two long rows, each on devices of its own."""
    rules = tiny.blueprint(tiny.ED(WIDE), devices, data=1, fsdp=2, sequence=sequence).rules
    dataset = DatasetConfig("a_task", {"inputs": LENGTH, "targets": LENGTH}, "train", 2)
    trainer = Trainer(Adafactor(), FactorSchedule(), Loss(chunk_bytes=2**20))
    return PreparedStep.of(tiny.ED(WIDE), dataset, trainer, rules).compiled(0)


def test_activations_take_the_less_memory_the_more_devices_share_a_row():
    whole, half = (compiled(2 * parts, parts).memory_analysis() for parts in (1, 2))
    assert half.temp_size_in_bytes < 0.6 * whole.temp_size_in_bytes


def test_of_activations_keys_and_values_alone_are_gathered():
    gathered = re.findall(r"= (\w+)\[([\d,]*)\]\S* all-gather\(", compiled(4, 2).as_text())
    shapes = {(kind, tuple(map(int, shape.split(",")))) for kind, shape in gathered}
    long = {(kind, shape) for kind, shape in shapes if LENGTH in shape or LENGTH // 2 in shape}
    keys_or_values = ("f32", (1, LENGTH, WIDE.num_heads, WIDE.head_dim))
    assert long == {keys_or_values, ("s32", (1, LENGTH))}  # and where they stand
    assert "all-to-all" not in compiled(4, 2).as_text()
