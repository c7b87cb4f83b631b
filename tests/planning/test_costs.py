"""The cost model that orders layouts; nothing is compiled."""

import dataclasses
from typing import Any

import pytest

from archobj_jax.architectures.architecture import CausalDecoder
from archobj_jax.architectures.attention_kernels import KERNELS
from archobj_jax.architectures.network import REMAT_POLICIES
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning import search
from archobj_jax.planning.costs import Cost, cost
from archobj_jax.planning.run import Run
from archobj_jax.planning.topology import topology_of
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.trainer import Trainer
from tests.tiny import network

NETWORK = dataclasses.replace(
    network(vocab_size=256, emb_dim=128, mlp_dim=256, num_heads=4, head_dim=32), dtype="bfloat16"
)
ROWS, LENGTH = 8, 32
TOPOLOGY = "v4:2x2x1"


def run_of(**mesh: Any) -> Run:
    return Run(
        model=CausalDecoder(NETWORK),
        dataset=DatasetConfig("a_task", {"targets": LENGTH}, "train", ROWS),
        trainer=Trainer(Adafactor(), FactorSchedule(), Loss()),
        partitioner=Partitioner(**mesh),
    )


def prepared(**mesh: Any) -> PreparedStep:
    return run_of(**mesh).prepared(topology_of(TOPOLOGY))


def costs(step: PreparedStep, remat: str = "full") -> Cost:
    return cost(step, topology_of(TOPOLOGY), remat=remat, microbatches=1)


def with_kernel(step: PreparedStep, name: str) -> PreparedStep:
    architecture = CausalDecoder(dataclasses.replace(NETWORK, attention_kernel=name))
    blueprint = dataclasses.replace(step.blueprint, architecture=architecture)
    return dataclasses.replace(step, blueprint=blueprint)


def test_a_search_takes_a_run_with_a_sequence_axis():
    tried = list(search.candidates(run_of(sequence=2), topology_of(TOPOLOGY)))
    assert {each.run.partitioner.sequence for each in tried} == {2}
    assert all(each.estimate.seconds > 0 for each in tried)


@pytest.mark.parametrize(("remat", "made"), [("none", 2), ("full", 3)])
def test_over_sequence_keys_and_values_are_gathered_and_whole_gradients_summed(
    remat: str, made: int
):
    step = prepared(data=1, sequence=4)
    compute = costs(prepared(data=4), remat).seconds - _summed(step)
    keys_values = 2 * NETWORK.num_heads * NETWORK.head_dim
    gathered = made * 2 * ROWS * LENGTH * keys_values * NETWORK.num_decoder_layers
    exchanged = costs(step, remat).seconds - compute
    assert exchanged == pytest.approx(_summed(step) + gathered / (2 * 4.5e10))


def _summed(step: PreparedStep) -> float:
    """Seconds of an all-reduce of float32 gradients over the two links of a chip."""
    return 2 * 4 * step.blueprint.parameter_count / (2 * 4.5e10)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("remat", REMAT_POLICIES)
def test_every_attention_kernel_and_remat_policy_has_a_cost(kernel: str, remat: str):
    made = costs(with_kernel(prepared(fsdp=4), kernel), remat)
    assert made.hbm > 0
    assert made.seconds > 0


def test_an_attention_kernel_that_has_no_cost_is_not_taken_for_a_dense_one():
    step = with_kernel(prepared(fsdp=4), "another")
    with pytest.raises(KeyError, match="another"):
        costs(step)
