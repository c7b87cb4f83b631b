"""Meshes, rules and rows: what lies where, and what is said when it cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from archobj_jax.architectures.products import project
from archobj_jax.errors import UserError
from archobj_jax.partitioning.partitioner import (
    Partitioner,
    check_lengths,
    local_rows,
    row_sharding,
)
from archobj_jax.partitioning.rules import LogicalAxisRules, activated, constrain, gathered

MIXED = {"data": 2, "fsdp": 2, "tensor": 2}


def rules(**options) -> LogicalAxisRules:
    partitioner = Partitioner(**options)
    return partitioner.logical_axis_rules(partitioner.mesh())


def test_data_takes_what_the_other_axes_leave():
    assert dict(Partitioner(fsdp=2, tensor=2).mesh().shape) == {**MIXED, "sequence": 1}
    assert dict(Partitioner().mesh().shape) == {"data": 8, "fsdp": 1, "sequence": 1, "tensor": 1}
    assert Partitioner(data=1).mesh(jax.devices()[:1]).size == 1


def test_parameters_lie_on_fsdp_by_embed_and_on_tensor_by_the_other():
    mixed = rules(**MIXED)
    assert mixed.spec((4, 16, 32), ("layers", "embed", "mlp")) == PartitionSpec(
        None, "fsdp", "tensor"
    )
    assert mixed.spec((64, 16), ("vocab", "embed")) == PartitionSpec("tensor", "fsdp")
    assert mixed.spec((16,), ("embed",)) == PartitionSpec("fsdp")
    assert mixed.spec((8, 5), ("batch", "length")) == PartitionSpec(("data", "fsdp"), None)
    assert mixed.spec((8, 16), (None, "embed")) == PartitionSpec(None, "fsdp")


def test_what_does_not_divide_stays_whole_and_a_mesh_axis_serves_once():
    mixed = rules(**MIXED)
    assert mixed.spec((5, 16), ("heads", "embed")) == PartitionSpec(None, "fsdp")
    assert mixed.spec((8, 16, 16), ("batch", "length", "embed")) == PartitionSpec(
        ("data", "fsdp"), None, None
    )


def test_rules_of_ones_own_replace_the_standard_ones_of_the_same_axis():
    own = rules(**MIXED, rules=(("embed", ("tensor",)), ("mlp", ())))
    assert own.spec((16, 32), ("embed", "mlp")) == PartitionSpec("tensor", None)
    assert own.spec((64, 4), ("vocab", "kv")) == PartitionSpec("tensor", None)


@pytest.mark.parametrize("options", [{"fsdp": 0}, {"tensor": 0}, {"data": 0}, {"sequence": -2}])
def test_axes_below_one_are_refused(options: dict):
    with pytest.raises(UserError, match="must be at least 1"):
        Partitioner(**options)


@pytest.mark.parametrize(
    "options", [{"data": 3}, {"fsdp": 3}, {"data": 4, "tensor": 4}, {"fsdp": 16}]
)
def test_a_mesh_that_does_not_fill_the_devices_is_refused(options: dict):
    with pytest.raises(UserError, match="does not fill the 8 devices"):
        Partitioner(**options).mesh()


def test_a_planned_mesh_needs_no_devices():
    planned = Partitioner(data=4, fsdp=16, tensor=4).planned_mesh()
    assert isinstance(planned, AbstractMesh)
    assert dict(planned.shape) == {"data": 4, "fsdp": 16, "sequence": 1, "tensor": 4}
    assert dict(Partitioner(fsdp=16).planned_mesh().shape)["fsdp"] == 16
    assert Partitioner(fsdp=4).planned_mesh() == Partitioner(fsdp=4).mesh()


def test_a_rule_on_an_unknown_mesh_axis_is_named():
    message = r"'mlp' is laid on 'tensors'; mesh axes are data.*Did you mean 'tensor'"
    with pytest.raises(UserError, match=message):
        rules(rules=(("mlp", ("tensors",)),))
    with pytest.raises(UserError, match=r"T5X's 'model' is 'tensor'"):
        rules(rules=(("mlp", "model"),))


def test_a_rule_for_an_unknown_logical_axis_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"no logical axis 'embeds'.*Did you mean 'embed'"):
        rules(rules=(("embeds", ("fsdp",)),))


def test_rules_may_be_written_as_t5x_has_them():
    own = rules(**MIXED, rules=(("embed", "tensor"), ("mlp", None)))
    assert own.spec((16, 32), ("embed", "mlp")) == PartitionSpec("tensor", None)


def test_any_axis_may_take_what_the_others_leave_but_only_one():
    assert Partitioner(data=2, fsdp=-1).mesh().shape["fsdp"] == 4
    assert Partitioner(data=1, tensor=-1, fsdp=2).mesh().shape["tensor"] == 4
    assert Partitioner(data=1, sequence=-1).mesh().shape["sequence"] == 8
    with pytest.raises(UserError, match=r"data and fsdp are both -1.*Partitioner.data=1"):
        Partitioner(fsdp=-1)


def test_t5x_names_of_the_tensor_axis():
    assert Partitioner(num_partitions=4).mesh().shape["tensor"] == 4
    assert Partitioner(model_parallel_submesh=(2, 2, 1, 1)).mesh().shape["tensor"] == 4
    alike = Partitioner(tensor=4, num_partitions=4, model_parallel_submesh=(4, 1, 1, 1))
    assert alike.mesh().shape["tensor"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensor": 2, "num_partitions": 4}, "tensor = 2 and Partitioner.num_partitions = 4"),
        (
            {"num_partitions": 2, "model_parallel_submesh": (4, 1, 1, 1)},
            r"num_partitions = 2 and .*submesh = \(4, 1, 1, 1\) \(4 devices\) contradict",
        ),
        ({"model_parallel_submesh": (4, 1, 0, 1)}, "must be four numbers of at least 1"),
    ],
)
def test_names_of_the_tensor_axis_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Partitioner(**options)


def test_activations_lie_on_sequence_by_length_and_what_attention_reads_does_not():
    split = rules(data=1, fsdp=2, sequence=2, tensor=2)
    assert split.spec((8, 16, 4), ("batch", "length", "activation_embed")) == PartitionSpec(
        "fsdp", "sequence", None
    )
    assert split.spec((8, 16, 4, 8), ("batch", "kv_length", "kv_heads", "kv")) == PartitionSpec(
        "fsdp", None, "tensor", None
    )
    assert split.spec((16, 32), ("embed", "mlp")) == PartitionSpec("fsdp", "tensor")


def test_a_logical_axis_without_a_rule_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'embedd'.*Did you mean 'embed'"):
        rules().spec((16,), ("embedd",))


def test_rows_lie_on_data_and_fsdp_and_must_divide():
    sharding = row_sharding(rules(**MIXED), 8)
    assert sharding.shard_shape((8, 5)) == (2, 5)
    np.testing.assert_array_equal(local_rows(sharding, 8), np.arange(8))
    with pytest.raises(UserError, match=r"BATCH_SIZE = 6 does not divide over the 4 devices"):
        row_sharding(rules(**MIXED), 6)


def test_every_process_reads_whole_rows_of_those_whose_parts_it_holds():
    sharding = row_sharding(rules(data=1, fsdp=2, sequence=4), 8)
    assert sharding.shard_shape((8, 12)) == (4, 3)
    np.testing.assert_array_equal(local_rows(sharding, 8), np.arange(8))


def test_lengths_lie_on_sequence_and_must_divide():
    split = rules(data=1, fsdp=2, sequence=4)
    check_lengths(split, {"decoder_input_tokens": 12})
    with pytest.raises(UserError, match="TASK_FEATURE_LENGTHS: encoder_input_tokens have length 6"):
        check_lengths(split, {"decoder_input_tokens": 12, "encoder_input_tokens": 6})


def test_activations_are_constrained_while_rules_are_active_alone():
    mixed = rules(**MIXED)
    x = np.ones((8, 4, 16), np.float32)

    def run(x):
        return constrain(x, ("batch", "length", "mlp"))

    with activated(mixed):
        made = jax.jit(run)(x)
    assert made.sharding.is_equivalent_to(
        mixed.sharding(x.shape, ("batch", "length", "mlp")), x.ndim
    )
    assert "sharding_constraint" not in str(jax.make_jaxpr(lambda x: run(x) + 1)(x))


FIRST_DIMENSION = (("mlp", ("fsdp", "tensor")), ("joined_kv", ("fsdp", "tensor")))


@pytest.mark.parametrize("axes", [("embed", "mlp"), ("mlp", "embed")])
@pytest.mark.parametrize("own", [(), FIRST_DIMENSION])
def test_gathered_is_the_kernel_and_its_gradient_lies_where_the_kernel_does(own, axes):
    mixed = rules(**MIXED, rules=own)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 16)).astype(np.float32)
    kernel = jax.device_put(
        rng.normal(size=(16, 32)).astype(np.float32), mixed.sharding((16, 32), axes)
    )
    seen = []

    def loss(kernel, x, product):
        return jnp.sin(product(constrain(x, ("batch", None)), kernel)).sum()

    def projected(x, kernel):
        jax.debug.inspect_array_sharding(gathered(kernel, axes), callback=seen.append)
        return project(x, kernel, axes, None)

    with activated(mixed):
        made = jax.jit(jax.grad(loss), static_argnums=2)(kernel, x, projected)
    whole = {0: (8, 32), 1: (16, 16)}[axes.index("mlp")]  # sharded by tensor alone
    assert [sharding.shard_shape((16, 32)) for sharding in seen] == [whole]
    assert made.sharding.is_equivalent_to(kernel.sharding, 2)
    expected = jax.grad(loss)(np.asarray(kernel), x, jnp.matmul)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
    assert gathered(expected, axes) is expected  # no rules are active
