"""Damaged checkpoints: named, passed over, set aside; and the run still ends where it must."""

import shutil
from pathlib import Path

import pytest

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


def largest(checkpoint: Path) -> Path:
    return max(
        (path for path in checkpoint.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink], ids=["cut", "flipped", "missing"])
def test_a_damaged_newest_checkpoint_is_named_and_passed_over(
    damage, stopped, undisturbed, capfd, caplog
):
    damage(largest(stopped / "checkpoints" / "checkpoint_9" / "state"))
    assert runs.here(stopped) == 0
    assert "checkpoint_9 is damaged" in capfd.readouterr().err + caplog.text
    assert (stopped / "checkpoints" / "checkpoint_9.damaged").is_dir()
    assert runs.checkpoints(stopped)[-1] == 12
    assert runs.checksum(stopped) == runs.checksum(undisturbed)
    assert runs.metrics(stopped) == runs.metrics(undisturbed)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink], ids=["cut", "flipped", "missing"])
def test_no_damaged_file_goes_unnoticed_or_makes_a_traceback(damage, stopped, undisturbed):
    """Every file of a checkpoint in turn; some (indices, notes) may be harmless."""
    model_dir = stopped.parent / "files"
    newest = stopped / "checkpoints" / "checkpoint_9"
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        shutil.copytree(stopped, model_dir)
        damage(model_dir / path.relative_to(stopped))
        assert runs.here(model_dir, TRAIN_STEPS=9) == 0, path
        assert runs.checksum(model_dir) == runs.checksum(stopped), path
        shutil.rmtree(model_dir)


def test_if_all_are_damaged_nothing_starts_anew(stopped, capfd):
    for checkpoint in (stopped / "checkpoints").iterdir():
        cut(largest(checkpoint / "state"))
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
    assert "is [384, 32], expected [384, 64]" in message
    assert (stopped / "config.gin").read_text() == before
    assert runs.here(stopped, OPTIMIZER="@optimizers.AdamW()") == 2
    assert "it lacks opt_state/" in capfd.readouterr().err.splitlines()[-1]
