"""One step for every combination: microbatches, normalisation, metrics, non-finite losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from archobj_jax.errors import UserError
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.state import TrainState
from archobj_jax.training.trainer import Trainer
from tests import tiny

MODEL = tiny.CD(tiny.NETWORK)


class Sgd:
    """Adds the negative gradients, so that a step shows them."""

    def build(self, learning_rate, stacked):
        del stacked
        return optax.sgd(learning_rate)


def batch() -> dict[str, jax.Array]:
    """Four rows with different numbers of target tokens."""
    rows = [[tiny.example(3, 4 + 2 * row, row), tiny.example(2, 5, row)] for row in range(4)]
    return tiny.batch_of(MODEL, rows, {"inputs": 10, "targets": 18})


def step(trainer: Trainer, params=None, data=None, at: int = 0):
    blueprint = tiny.blueprint(MODEL)
    params = tiny.parameters(MODEL) if params is None else params
    opt_state = trainer.transform(blueprint).init(params)
    state = TrainState(jnp.asarray(at, jnp.int32), params, opt_state)
    made, metrics = jax.jit(trainer.train_step(blueprint, seed=0))(state, data or batch())
    return made, {name: float(value) for name, value in metrics.items()}


def gradients(**options) -> tuple[dict, dict]:
    trainer = Trainer(Sgd(), optax.constant_schedule(1.0), **options)
    made, metrics = step(trainer)
    return jax.tree.map(lambda new, old: old - new, made.params, tiny.parameters(MODEL)), metrics


@pytest.fixture(scope="module")
def whole() -> tuple[dict, dict]:
    return gradients()


@pytest.mark.parametrize("count", [2, 4])
def test_microbatches_give_the_gradients_of_one_batch(count: int, whole):
    made, metrics = gradients(num_microbatches=count)
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, made, whole[0]))
    assert difference <= 2e-6 * optax.tree.norm(whole[0])
    for name, expected in whole[1].items():
        assert metrics[name] == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("count", [1, 2])
def test_tokens_normalisation_divides_by_the_whole_batchs_targets(count: int, whole):
    made, metrics = gradients(loss=Loss(normalization="tokens"), num_microbatches=count)
    assert metrics["target_tokens"] == 4 + 6 + 8 + 10 + 4 * 5
    assert metrics["gradient_norm"] == pytest.approx(
        whole[1]["gradient_norm"] / metrics["target_tokens"], rel=1e-5
    )
    kernel = ("decoder", "layers", "mlp", "wo", "kernel")
    for key in kernel:
        made = made[key]
    expected = whole[0]
    for key in kernel:
        expected = expected[key]
    np.testing.assert_allclose(made * metrics["target_tokens"], expected, rtol=1e-3, atol=1e-4)


def test_metrics_are_means_over_targets_and_norms(whole):
    made, metrics = whole
    data, params = batch(), tiny.parameters(MODEL)
    losses = Loss().token_losses(tiny.logits_of(MODEL)(params, data), data["decoder_target_tokens"])
    weights = data["decoder_loss_weights"]
    for name, values in (
        ("loss", losses.total),
        ("z_loss", losses.z_loss),
        ("accuracy", losses.correct),
    ):
        expected = float(jnp.sum(values * weights) / jnp.sum(weights))
        assert metrics[name] == pytest.approx(expected, rel=1e-5), name
    assert metrics["gradient_norm"] == pytest.approx(float(optax.tree.norm(made)), rel=1e-4)
    assert metrics["update_norm"] == pytest.approx(metrics["gradient_norm"], rel=1e-5)
    assert metrics["parameter_norm"] == pytest.approx(float(optax.tree.norm(params)), rel=1e-5)
    assert metrics["tokens"] == int((data["decoder_segment_ids"] > 0).sum())
    assert metrics["learning_rate"] == 1.0
    assert metrics["finite"] == 1.0


def test_a_non_finite_step_changes_nothing_but_step_counts():
    trainer = Trainer(Adafactor(), optax.constant_schedule(0.1), on_nonfinite="skip")
    params = jax.tree.map(jnp.copy, tiny.parameters(MODEL))
    params["decoder"]["norm"]["scale"] = params["decoder"]["norm"]["scale"].at[3].set(jnp.inf)
    made, metrics = step(trainer, params, at=6)
    assert metrics["finite"] == 0.0
    assert made.step == 7
    assert made.opt_state.count == 1  # so that the schedule stays with the global step
    jax.tree.map(np.testing.assert_array_equal, made.params, params)


def test_evaluation_sums_are_the_steps_losses_without_dropout(whole):
    model = tiny.CD(tiny.network(dropout_rate=0.5))
    trainer = Trainer(Sgd(), optax.constant_schedule(1.0))
    sums = jax.jit(trainer.eval_step(tiny.blueprint(model)))(tiny.parameters(MODEL), batch())
    assert float(sums.means()["loss"]) == pytest.approx(whole[1]["loss"], rel=1e-5)
    assert sums.weights == whole[1]["target_tokens"]


def test_dropout_depends_on_seed_and_step():
    model = tiny.CD(tiny.network(dropout_rate=0.3))
    blueprint, params = tiny.blueprint(model), tiny.parameters(MODEL)
    trainer = Trainer(Sgd(), optax.constant_schedule(0.0))
    opt_state = trainer.transform(blueprint).init(params)
    run = jax.jit(trainer.train_step(blueprint, seed=0))
    losses = [
        float(run(TrainState(jnp.asarray(at, jnp.int32), params, opt_state), batch())[1]["loss"])
        for at in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_an_unknown_policy_is_named():
    with pytest.raises(UserError, match="on_nonfinite = 'halt': must be one of stop, skip"):
        Trainer(Adafactor(), optax.constant_schedule(1.0), on_nonfinite="halt")
