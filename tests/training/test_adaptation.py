"""Starting from another run's checkpoint: values, optimizer state, steps, schedules, mistakes."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.training import restoring
from archobj_jax.training.adaptation import Adaptation, InitialCheckpoint
from archobj_jax.training.checkpoints import Checkpoints, SaveCheckpointConfig
from archobj_jax.training.lineage import Stage, model_record
from archobj_jax.training.optimizers import Adafactor, AdamW, Muon
from archobj_jax.training.parameter_rules import Rule
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.state import TrainState, flatten
from archobj_jax.training.trainer import Trainer
from tests import tiny

STEP = 7
VOCABULARY = {"title": "tiny, 64 ids", "fingerprint": "aaaa"}
DATASET = DatasetConfig("task", {"targets": 8}, "train", 2)
TRAINER = Trainer(Adafactor(min_dim_size_to_factor=8), FactorSchedule("constant"))
ED_NETWORK = {"positions": "relative_shared"}


def saved(folder: Path, architecture, trainer: Trainer = TRAINER) -> TrainState:
    """Saves a state whose optimizer arrays are not all zero; returns a copy of it."""
    blueprint = tiny.blueprint(architecture)
    state = blueprint.init(trainer.transform(blueprint), seed=5)
    opt_state = jax.tree.map(lambda x: x + jnp.asarray(STEP, x.dtype), state.opt_state)
    state = TrainState(jnp.asarray(STEP, jnp.int32), state.params, opt_state)
    stage = Stage("there", "pretrain", architecture.symbol, "FLM", "c", "d", tokens=1e9)
    about = {
        "config": "",
        "model": model_record(architecture, DATASET, vocabulary=VOCABULARY),
        "lineage": [dataclasses.asdict(stage.at(STEP, 1e9, 0))],
    }
    with Checkpoints(str(folder), SaveCheckpointConfig(period=1)) as checkpoints:
        checkpoints.save(state, about)
        checkpoints.wait()
    return jax.tree.map(np.asarray, state)


def adaptation(folder: Path, architecture, trainer: Trainer = TRAINER, mesh=None, **config):
    blueprint = tiny.blueprint(architecture, **(mesh or {}))
    initial = InitialCheckpoint(str(folder), **config)
    return Adaptation.of(initial, blueprint, trainer, vocabulary=VOCABULARY)


def named(tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in flatten(tree)}


@pytest.fixture(scope="module")
def cd(tmp_path_factory) -> tuple[Path, TrainState]:
    folder = tmp_path_factory.mktemp("cd")
    return folder, saved(folder, tiny.CD(tiny.network()))


@pytest.fixture(scope="module")
def ed(tmp_path_factory) -> tuple[Path, TrainState]:
    folder = tmp_path_factory.mktemp("ed")
    return folder, saved(folder, tiny.ED(tiny.network(**ED_NETWORK)))


@pytest.mark.parametrize(
    "mesh", [None, {"devices": 8, "data": 2, "fsdp": 2, "tensor": 2}], ids=["one", "eight"]
)
def test_cd_goes_on_as_nd_with_every_bit_it_had(cd, mesh):
    folder, there = cd
    state = adaptation(folder, tiny.ND(tiny.network()), mesh=mesh).state(seed=0)
    assert int(state.step) == STEP
    here, source = named(state), named(there)
    assert here.keys() == source.keys()
    for name, value in here.items():
        np.testing.assert_array_equal(value, source[name], err_msg=name)


@pytest.mark.parametrize("optimizer", [AdamW(), Muon()], ids=["adamw", "muon"])
def test_the_state_of_optaxs_optimizers_goes_on_too(optimizer, tmp_path):
    trainer = Trainer(optimizer, FactorSchedule("constant"))
    there = named(saved(tmp_path, tiny.CD(tiny.network()), trainer))
    here = named(adaptation(tmp_path, tiny.ND(tiny.network()), trainer).state(seed=0))
    assert here.keys() == there.keys()
    for name, value in here.items():
        np.testing.assert_array_equal(value, there[name], err_msg=name)
    more = tiny.CD(tiny.network(num_decoder_layers=4))
    grown = named(adaptation(tmp_path, more, trainer, rules="more_layers").state(seed=0))
    moments = [n for n in grown if n.startswith("opt_state") and n.endswith("wo/kernel")]
    assert moments
    assert all((grown[name] == STEP).all() for name in moments)


def test_without_a_prefix_nd_computes_bitwise_what_cd_does(cd):
    folder, there = cd
    nd = tiny.ND(tiny.network())
    state = adaptation(folder, nd).state(seed=0)
    rows = [[tiny.example(0, 9), tiny.example(0, 5, 1)], [tiny.example(0, 16, 2)]]
    batch = tiny.batch_of(nd, rows, {"targets": 16})
    source = jax.tree.map(jnp.asarray, there.params)
    ours = tiny.logits_of(nd)(state.params, batch)
    theirs = tiny.logits_of(tiny.CD(tiny.network()))(source, batch)
    np.testing.assert_array_equal(ours, theirs)


def test_step_optimizer_and_schedule_are_choices(cd):
    folder, there = cd
    made = adaptation(folder, tiny.ND(tiny.network()), step="zero", optimizer_state="fresh")
    state = made.state(seed=0)
    assert int(state.step) == made.start_step == 0
    fresh = tiny.blueprint(tiny.ND(tiny.network()))
    expected = named(fresh.init(TRAINER.transform(fresh), seed=0).opt_state)
    for name, value in named(state.opt_state).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    np.testing.assert_array_equal(
        named(state.params)["decoder/norm/scale"], named(there.params)["decoder/norm/scale"]
    )
    assert adaptation(folder, tiny.ND(tiny.network())).schedule_start == 0
    assert adaptation(folder, tiny.ND(tiny.network()), schedule="restart").schedule_start == STEP


def test_the_learning_rate_is_that_of_the_schedules_step(cd):
    """With a fresh optimizer too, whose own count begins at 0."""
    folder, _ = cd
    model = tiny.ND(tiny.network())
    trainer = dataclasses.replace(
        TRAINER, learning_rate_fn=FactorSchedule("linear_warmup", warmup_steps=100)
    )
    state = adaptation(folder, model, trainer, optimizer_state="fresh").state(seed=0)
    blueprint, batch = tiny.blueprint(model), tiny.two_rows(model)
    for start, expected in ((0, STEP / 100), (STEP - 2, 0.02)):
        _, metrics = jax.jit(trainer.train_step(blueprint, 0, schedule_start=start))(state, batch)
        assert float(metrics["learning_rate"]) == pytest.approx(expected)


def test_a_decoder_is_taken_from_an_encoder_decoder_with_its_statistics(ed):
    folder, there = ed
    rules = ("take_decoder", "positions_per_layer")
    made = adaptation(folder, tiny.CD(tiny.network()), rules=rules)
    state = made.state(seed=0)
    here, source = named(state), named(there)
    for name in ("params/decoder/layers/mlp/wo/kernel", "params/token_embedder/embedding"):
        np.testing.assert_array_equal(here[name], source[name])
    table = here["params/decoder/layers/relpos_bias/rel_embedding"]
    for layer in table:
        np.testing.assert_array_equal(layer, source["params/decoder/relpos_bias/rel_embedding"])
    slot = "opt_state/slots/v_row/decoder/layers/mlp/wo/kernel"
    np.testing.assert_array_equal(here[slot], source[slot])
    slot = "opt_state/slots/v/decoder/layers/relpos_bias/rel_embedding"
    assert here[slot].shape == (2, 4, 32)
    assert (here[slot] == STEP).all()
    read = [n for n, leaf in flatten(made._wanted()) if leaf is not ocp.PLACEHOLDER]
    assert read
    assert not any("encoder" in name for name in read)  # its layers, and attention to it


def test_an_encoder_is_taken_too(ed):
    folder, there = ed
    rules = ("take_encoder", "positions_per_layer")
    here = named(adaptation(folder, tiny.ND(tiny.network()), rules=rules).state(seed=0))
    source = named(there)
    for kind in ("params", "opt_state/slots/v_row"):
        np.testing.assert_array_equal(
            here[f"{kind}/decoder/layers/mlp/wo/kernel"],
            source[f"{kind}/encoder/layers/mlp/wo/kernel"],
        )


def test_a_decoder_fills_an_encoder_decoder(cd):
    folder, there = cd
    model = tiny.ED(tiny.network(**ED_NETWORK))
    rules = ("fill_encoder", "positions_shared")
    here = named(adaptation(folder, model, rules=rules).state(seed=3).params)
    source = named(there.params)
    for stack in ("encoder", "decoder"):
        np.testing.assert_array_equal(
            here[f"{stack}/layers/mlp/wo/kernel"], source["decoder/layers/mlp/wo/kernel"]
        )
    blueprint = tiny.blueprint(model)
    fresh = named(blueprint.init(TRAINER.transform(blueprint), seed=3).params)
    name = "decoder/layers/encoder_decoder_attention/key/kernel"
    np.testing.assert_array_equal(here[name], fresh[name])


def test_a_model_grows(cd):
    folder, there = cd
    model = tiny.CD(tiny.network(num_decoder_layers=4, vocab_size=96))
    rules = ("more_layers", "larger_vocabulary")
    here = named(adaptation(folder, model, rules=rules).state(seed=0).params)
    source = named(there.params)
    kernel = here["decoder/layers/mlp/wo/kernel"]
    np.testing.assert_array_equal(kernel, source["decoder/layers/mlp/wo/kernel"][[0, 0, 1, 1]])
    made = adaptation(folder, model, rules=rules).state(seed=0).opt_state
    assert all((value == STEP).all() for name, value in named(made).items() if "/v" in name)
    embedding = here["token_embedder/embedding"]
    np.testing.assert_array_equal(embedding[:64], source["token_embedder/embedding"])
    assert embedding[64:].std() > 0.5


def test_what_no_rule_covers_is_told_before_anything_is_read(ed, monkeypatch):
    folder, _ = ed
    monkeypatch.setattr(restoring, "restore", None)
    with pytest.raises(UserError) as told:
        adaptation(folder, tiny.CD(tiny.network(num_decoder_layers=3)))
    message = str(told.value)
    assert message.startswith(f"INITIAL_CHECKPOINT_PATH: {folder}/checkpoints/checkpoint_{STEP}")
    assert "decoder/layers/mlp/wo/kernel: [3, 32, 16] here, [2, 32, 16] there" in message
    flag = "--gin.INITIAL_CHECKPOINT_RULES="
    assert f"""{flag}'("more_layers", "positions_per_layer", "take_decoder",)' or by""" in message


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({"num_heads": 8, "head_dim": 4}, "num_heads is 8 here, 4 there; head_dim is 4 here, 8"),
        ({"mlp_activations": ("silu", "linear")}, "mlp_activations is"),
        ({"positions": "rope"}, "positions is rope here, relative_per_layer there"),
    ],
)
def test_a_network_that_computes_something_else_is_told(network, expected, cd):
    with pytest.raises(UserError, match="computes something else") as told:
        adaptation(cd[0], tiny.ND(tiny.network(**network)))
    assert expected in str(told.value)


@pytest.mark.parametrize("rule", ["take_decoder", Rule("decodr/norm/scale", None)])
def test_a_rule_that_concerns_nothing_is_told(rule, cd):
    model = tiny.ND(tiny.network(positions="relative_per_layer"))
    with pytest.raises(UserError, match=r"INITIAL_CHECKPOINT_RULES: .* concerns no parameter"):
        adaptation(cd[0], model, rules=(rule,))


def test_another_optimizer_is_told(cd):
    folder, _ = cd
    trainer = Trainer(AdamW(), FactorSchedule("constant"))
    with pytest.raises(UserError, match=r"of another optimizer.*optimizer_state=fresh"):
        adaptation(folder, tiny.ND(tiny.network()), trainer)
    state = adaptation(folder, tiny.ND(tiny.network()), trainer, optimizer_state="fresh").state(0)
    assert int(state.step) == STEP


def test_another_vocabulary_is_told(cd):
    folder, _ = cd
    blueprint = tiny.blueprint(tiny.ND(tiny.network()))
    other = {"title": "another, 80 ids", "fingerprint": "bbbb"}
    with pytest.raises(UserError, match=r"vocabulary tiny, 64 ids.*the data has another, 80 ids"):
        Adaptation.of(InitialCheckpoint(str(folder)), blueprint, TRAINER, vocabulary=other)
    config = InitialCheckpoint(str(folder), rules=("larger_vocabulary",))
    Adaptation.of(config, blueprint, TRAINER, vocabulary=other)


def test_a_wrong_choice_or_path_is_told(tmp_path):
    with pytest.raises(UserError, match=r"InitialCheckpoint.step = 'keep': must be one of"):
        InitialCheckpoint("x", step="keep")
    with pytest.raises(UserError, match=r"INITIAL_CHECKPOINT_PATH is empty"):
        adaptation("", tiny.ND(tiny.network()))
    with pytest.raises(UserError, match=r"INITIAL_CHECKPOINT_PATH: .*does not exist"):
        adaptation(epath.Path(tmp_path) / "none", tiny.ND(tiny.network()))
