"""The model computes the same on every mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.placement import Placement
from archobj_jax.training.state import TrainState
from archobj_jax.training.trainer import Trainer
from tests import tiny

MODEL = tiny.CD(tiny.network(num_decoder_layers=1, num_kv_heads=2, positions="relative_shared"))
TRAINER = Trainer(Adafactor(min_dim_size_to_factor=32), optax.constant_schedule(0.01))


def three_losses(**mesh) -> list[float]:
    blueprint = tiny.blueprint(MODEL, **mesh)
    placement = Placement.of(blueprint.rules, 8)
    rows = [[tiny.example(6, 5, seed), tiny.example(7, 6, seed)] for seed in range(8)]
    batch = tiny.batch_of(MODEL, rows, {"inputs": 16, "targets": 12})
    placed = placement.put(jax.tree.map(np.asarray, batch))
    transform = TRAINER.transform(blueprint)
    shardings = jax.tree.map(lambda x: x.sharding, blueprint.abstract_state(transform))
    params = tiny.parameters(MODEL)
    fresh = TrainState(jnp.zeros((), jnp.int32), params, transform.init(params))
    state = jax.device_put(fresh, shardings)
    step = jax.jit(TRAINER.train_step(blueprint, seed=0), out_shardings=(shardings, None))
    losses = []
    for _ in range(3):
        state, metrics = step(state, placed)
        losses.append(float(metrics["loss"]))
    return losses


def test_meshes_give_the_losses_of_one_device():
    single = three_losses(devices=1)
    assert single[2] < single[0]
    for mesh in ({"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "fsdp": 4, "tensor": 2}):
        np.testing.assert_allclose(three_losses(devices=8, **mesh), single, rtol=1e-5)
