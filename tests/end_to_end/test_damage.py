"""Damaged checkpoints: named, passed over, set aside; and the run still ends where it must."""

import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.training.checkpoints import Checkpoints, SaveCheckpointConfig
from archobj_jax.training.state import TrainState
from tests.end_to_end import runs


def cut(path: Path) -> None:
    """Takes the last half away."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    """Changes one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def stopped(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed run as it was after step 9."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "checkpoints" / "checkpoint_12")
    assert runs.checkpoints(folder)[-2:] == [6, 9]
    return folder


def damage_arrays(checkpoint: Path, damage: Callable[[Path], None]) -> None:
    """Damages every file that holds data; the store leaves some bytes of each unused."""
    for path in (checkpoint / "state").glob("**/d/*"):
        damage(path)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink], ids=["cut", "flipped", "missing"])
def test_a_damaged_newest_checkpoint_is_named_and_passed_over(
    damage, stopped, undisturbed, capfd, caplog
):
    damage_arrays(stopped / "checkpoints" / "checkpoint_9", damage)
    assert runs.here(stopped) == 0
    assert "checkpoint_9 is damaged" in capfd.readouterr().err + caplog.text
    assert (stopped / "checkpoints" / "checkpoint_9.damaged").is_dir()
    assert runs.checkpoints(stopped)[-1] == 12
    assert runs.checksum(stopped) == runs.checksum(undisturbed)
    assert runs.metrics(stopped) == runs.metrics(undisturbed)


@pytest.fixture
def two_saved(tmp_path: Path) -> TrainState:
    """The state of two checkpoints, of steps 1 and 2, in `tmp_path`."""
    values = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    state = TrainState(jnp.int32(1), {"w": jnp.asarray(values)}, {"v": jnp.asarray(values[0])})
    with Checkpoints(str(tmp_path), SaveCheckpointConfig()) as checkpoints:
        checkpoints.save(state, {"lineage": [{"step": 1}]}, loss=2.0)
        state = state.replace(step=jnp.int32(2))
        checkpoints.save(state, {"lineage": [{"step": 2}]}, loss=1.0)
    return state


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink], ids=["cut", "flipped", "missing"])
def test_damage_to_any_file_is_harmless_or_noticed(damage, two_saved, tmp_path):
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), two_saved
    )
    saved = tmp_path / "checkpoints"
    noticed = set()
    for number, path in enumerate(sorted(p for p in saved.rglob("*2/**/*") if p.is_file())):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder / "checkpoints")
        damage(folder / path.relative_to(tmp_path))
        with Checkpoints(str(folder), SaveCheckpointConfig()) as checkpoints:
            restored = checkpoints.restore_latest(abstract)
        assert restored is not None
        step = int(restored.state.step)
        assert restored.about["lineage"] == [{"step": step}]
        np.testing.assert_array_equal(restored.state.params["w"], two_saved.params["w"])
        if step == 1:
            noticed.add(path.relative_to(saved / "checkpoint_2").parts[0])
    assert {"state", "about"} <= noticed


def test_if_all_are_damaged_nothing_starts_anew(stopped, capfd):
    for checkpoint in (stopped / "checkpoints").iterdir():
        damage_arrays(checkpoint, cut)
    before = (stopped / "metrics.jsonl").read_text()
    for _ in range(2):
        assert runs.here(stopped) == 74
        message = capfd.readouterr().err.splitlines()[-1]
        assert message.startswith("archobj: error: Every checkpoint in")
        assert "checkpoint_9, checkpoint_6" in message
    assert (stopped / "metrics.jsonl").read_text() == before


def test_a_checkpoint_of_another_model_is_the_users_mistake(stopped, capfd):
    before = (stopped / "config.gin").read_text()
    assert runs.here(stopped, network__NetworkConfig__emb_dim=64) == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert "checkpoint_9 is of another model or optimizer: " in message
    assert "is [2, 32], expected [2, 64]" in message
    assert (stopped / "config.gin").read_text() == before
    assert runs.here(stopped, OPTIMIZER="@optimizers.AdamW()") == 2
    assert "it lacks opt_state/" in capfd.readouterr().err.splitlines()[-1]
