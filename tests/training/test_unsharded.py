"""A large array that every device would hold whole is an error, unless it is allowed."""

import dataclasses

import pytest

from archobj_jax.errors import UserError
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.state import Blueprint
from archobj_jax.training.trainer import Trainer
from archobj_jax.training.unsharded import check_sharded
from tests import tiny

ARCHITECTURE = tiny.CD(tiny.network(emb_dim=18, mlp_dim=30))
KERNEL = 2 * 18 * 30 * 4
"""Bytes of an input projection of the two layers' feed-forward."""


def state(limit: int, devices: int = 8, **mesh):
    blueprint = tiny.blueprint(ARCHITECTURE, devices, **mesh)
    rules = dataclasses.replace(blueprint.rules, largest_unsharded_bytes=limit)
    blueprint = Blueprint.of(ARCHITECTURE, rules)
    trainer = Trainer(Adafactor(), FactorSchedule(), Loss())
    return blueprint, blueprint.abstract_state(trainer.transform(blueprint))


def test_a_parameter_whose_dimensions_do_not_divide_is_named_with_what_allows_it():
    with pytest.raises(UserError) as raised:
        check_sharded(*state(KERNEL - 1, fsdp=4, tensor=2, data=1, rules=(("mlp", ()),)))
    message = str(raised.value)
    assert "params/decoder/layers/mlp/wi_0/kernel, 2 x 18 x 30 of float32 (4.2 KiB)" in message
    assert "each of the 8 devices" in message
    assert "'embed' (18) on fsdp=4, 'mlp' (30) on nothing" in message
    assert f"--gin.Partitioner.largest_unsharded_bytes={KERNEL}" in message
    check_sharded(*state(KERNEL, fsdp=4, tensor=2, data=1, rules=(("mlp", ()),)))


def test_an_array_that_one_of_the_axes_shards_is_allowed():
    check_sharded(*state(2 * 18 * 4, fsdp=2, rules=(("relpos_buckets", "fsdp"),)))


def test_a_slot_of_the_optimizer_is_checked_as_well():
    blueprint, made = state(16, tensor=2)
    with pytest.raises(UserError, match="slots/v/decoder/layers/pre_mlp_layer_norm/scale, 2 x 18"):
        check_sharded(blueprint, made.opt_state)


def test_where_all_devices_have_copies_anyway_nothing_is_asked():
    check_sharded(*state(1))
    check_sharded(*state(1, data=2, sequence=4))
    check_sharded(*state(1, devices=1))
