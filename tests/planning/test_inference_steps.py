"""Steps of evaluation and generation, compiled for four chips that are not there."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.cli import main
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.inference import token_loop
from archobj_jax.inference.token_loop import CHUNK
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning.inference_steps import (
    Generating,
    InferenceSizes,
    generation_steps,
    scoring_step,
)
from archobj_jax.planning.plan import planned
from archobj_jax.planning.steps import held_out_step
from archobj_jax.planning.topology import topology_of
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.state import Blueprint
from archobj_jax.training.trainer import Trainer
from tests import tiny

NETWORK = tiny.network(
    vocab_size=256, emb_dim=128, mlp_dim=256, num_heads=4, head_dim=32, dtype="bfloat16"
)
SIZES = InferenceSizes({"inputs": 30, "targets": 16}, batch_tokens=192)
MODELS = [tiny.CD(NETWORK), tiny.ED(NETWORK)]


def blueprint(model: Architecture, **mesh: int) -> Blueprint:
    partitioner = Partitioner(**mesh)
    topology = topology_of("v4:2x2x1")
    return Blueprint.of(model, partitioner.logical_axis_rules(partitioner.mesh(topology.devices)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.symbol)
def test_held_out_loss_is_a_forward_pass(model: Architecture):
    here = blueprint(model, fsdp=2, tensor=2)
    step = held_out_step(
        model,
        DatasetConfig("a_task", {"inputs": 16, "targets": 16}, "validation", 8),
        Trainer(Adafactor(), FactorSchedule(), Loss(), num_microbatches=2),
        here.rules,
    )
    made = planned(step, topology_of("v4:2x2x1"), None)
    assert made.compiled_flops * 4 == pytest.approx(made.model_flops, rel=0.01)
    assert made.hbm == pytest.approx(sum(made.memory.values()), rel=1e-3)
    assert "optimizer state" not in made.memory
    assert made.tokens == 8 * 32


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.symbol)
def test_ranking_reads_inputs_once_and_choices_behind_them(model: Architecture):
    step = scoring_step(blueprint(model, data=4), SIZES)
    assert (step.rows, step.tokens) == (16, 16 * (32 + 16))
    made = planned(step, topology_of("v4:2x2x1"), None)
    assert made.compiled_flops * 4 == pytest.approx(made.model_flops, rel=0.05)
    assert sum(made.collectives.values()) < 4096  # Nothing but scores.


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.symbol)
def test_generation_has_a_step_that_reads_and_one_that_writes(model: Architecture):
    prefill, decode = generation_steps(blueprint(model, data=4), SIZES)
    assert (prefill.rows, prefill.tokens) == (16, 16 * 32)
    assert (decode.rows, decode.tokens) == (16, CHUNK * 16)
    topology = topology_of("v4:2x2x1")
    read = planned(prefill, topology, None)
    assert read.compiled_flops * 4 == pytest.approx(read.model_flops, rel=0.05)
    made = planned(decode, topology, None)
    capacity = 48 if model.symbol == "CD" else 16 + 31  # the decoder's own, and the encoder's
    one = 2 * NETWORK.num_decoder_layers * NETWORK.num_heads * NETWORK.head_dim * 2
    assert made.memory["keys and values"] == 4 * capacity * one
    assert made.roofline.bound_by == "HBM"
    kernels = sum(i.size for i in blueprint(model).infos if i.path[0] == "decoder")
    assert made.hbm_traffic > 4 * kernels  # A tiny model then stays in on-chip memory.


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.symbol)
def test_the_planned_state_lies_as_the_real_one(model: Architecture):
    here = tiny.blueprint(type(model)(tiny.NETWORK), 4, fsdp=2, tensor=2)
    generating = Generating.of(here, SIZES)
    carry = generating.carry(64)
    lowered = token_loop.prefill.lower(generating.loop, *generating.arguments, capacity=64)
    compiled = lowered.compile()
    real, _, _ = compiled.output_shardings
    for planned_leaf, sharding in zip(jax.tree.leaves(carry), jax.tree.leaves(real), strict=True):
        assert planned_leaf.sharding.is_equivalent_to(sharding, planned_leaf.ndim)


def test_the_command_writes_figures_of_both_steps_of_generation(tmp_path: Path):
    out = tmp_path / "plan.json"
    arguments = [
        "plan",
        "--gin_file=t5x_configs/experiments/tiny/nd_mlm.gin",
        "--topology=v4:2x2x1",
        "--step=generate",
        "--gin.INFER_EVAL_FEATURE_LENGTHS={'inputs': 20, 'targets': 8}",
        "--gin.inference_steps.InferenceSizes.batch_tokens=128",
        f"--json={out}",
    ]
    assert main(arguments) == 0
    written = json.loads(out.read_text())
    assert list(written) == ["prefill", "decode"]
    assert written["decode"]["tokens_per_second"] == pytest.approx(
        written["decode"]["tokens_per_step"] / written["decode"]["seconds"]["step"]
    )


def test_an_unknown_step_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    tiny_experiment = "--gin_file=t5x_configs/experiments/tiny/nd_mlm.gin"
    assert main(["plan", tiny_experiment, "--topology=v4:2x2x1", "--step=evaluation"]) == 2
    assert "Did you mean 'evaluate'" in capsys.readouterr().err
    with pytest.raises(UserError, match="must have inputs and targets"):
        dataclasses.replace(SIZES, task_feature_lengths={"targets": 4})
