"""The train state's blueprint: values, shardings and checksums do not depend on the mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from archobj_jax.training.checksums import checksums
from archobj_jax.training.optimizers import Adafactor, AdamW
from archobj_jax.training.state import flatten, per_device_bytes
from tests import tiny

MODEL = tiny.CD(tiny.network(num_decoder_layers=1))
ADAFACTOR = Adafactor(min_dim_size_to_factor=8)
MESHES = [
    {"devices": 1},
    {"devices": 8, "data": 2, "fsdp": 2, "tensor": 2},
    {"devices": 8, "data": 1, "fsdp": 8},
]


def state(optimizer, **mesh):
    blueprint = tiny.blueprint(MODEL, **mesh)
    transform = optimizer.build(optax.constant_schedule(1.0), blueprint.stacked())
    return blueprint, transform


@pytest.fixture(scope="module")
def fresh() -> list:
    made = []
    for mesh in MESHES:
        blueprint, transform = state(ADAFACTOR, **mesh)
        made.append((blueprint.abstract_state(transform), blueprint.init(transform, seed=3)))
    return made


def test_a_fresh_state_lies_as_its_blueprint_says(fresh):
    for abstract, made in fresh:
        assert jax.tree.structure(abstract) == jax.tree.structure(made)
        for expected, leaf in zip(jax.tree.leaves(abstract), jax.tree.leaves(made), strict=True):
            assert (leaf.shape, leaf.dtype) == (expected.shape, expected.dtype)
            assert leaf.sharding.is_equivalent_to(expected.sharding, leaf.ndim)


def test_values_and_checksums_do_not_depend_on_the_mesh(fresh):
    sums = [checksums(made.params) for _, made in fresh]
    assert sums[0] == sums[1] == sums[2]
    assert len(set(sums[0].values())) > 5
    assert sums[0].keys() == {info.name for info in tiny.blueprint(MODEL).infos}


def test_a_checksum_shows_a_changed_bit_and_swapped_elements():
    x = np.arange(1.0, 9.0, dtype=np.float32)
    swapped, nudged = x.copy(), x.copy()
    swapped[[2, 5]] = swapped[[5, 2]]
    nudged[3] = np.nextafter(nudged[3], np.float32(9))
    made = [checksums({"x": jnp.asarray(y)})["x"] for y in (x, x.copy(), swapped, nudged)]
    assert made[0] == made[1]
    assert len(set(made)) == 3


def test_slots_lie_as_their_parameter_less_what_they_reduced():
    blueprint, transform = state(ADAFACTOR, devices=8, data=1, fsdp=2, tensor=4)
    abstract = blueprint.abstract_state(transform)
    mlp = ("decoder", "layers", "mlp", "wi_0", "kernel")

    def spec(tree) -> tuple:
        for name in mlp:
            tree = tree[name]
        return tuple(tree.sharding.spec)

    # [layers, embed 16, mlp 32]: rows keep the smaller embed, columns the larger mlp.
    assert spec(abstract.params) == (None, "fsdp", "tensor")
    assert spec(abstract.opt_state.slots.v_row) == (None, "fsdp")
    assert spec(abstract.opt_state.slots.v_col) == (None, "tensor")
    blueprint, transform = state(AdamW(), devices=8, data=1, fsdp=2, tensor=4)
    adam = dict(flatten(blueprint.abstract_state(transform).opt_state))
    moments = [leaf for name, leaf in adam.items() if name.endswith("mu/" + "/".join(mlp))]
    assert [tuple(leaf.sharding.spec) for leaf in moments] == [(None, "fsdp", "tensor")]


def test_what_is_not_sharded_is_reported():
    whole, sharded = (tiny.blueprint(MODEL, **mesh) for mesh in MESHES[::2])
    assert whole.unsharded_share() == 1.0
    tables = sum(info.size for info in sharded.infos if "relpos" in info.name)
    assert sharded.unsharded_share() == pytest.approx(tables / sharded.parameter_count)
    assert per_device_bytes(whole.abstract_params()) == 4 * whole.parameter_count
    expected = 4 * (sharded.parameter_count - tables) / 8 + 4 * tables
    assert per_device_bytes(sharded.abstract_params()) == expected
