"""Full disks and files that cannot be written: a message, what is safe, and the same command."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from archobj_jax.errors import MachineError
from archobj_jax.training.checkpoints import Checkpoints
from archobj_jax.training.goodput import Goodput
from archobj_jax.training.tensorboard import Events
from tests.end_to_end import runs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes; or, without the right to make one, just a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_loses_nothing(small_disk, undisturbed, capfd):
    assert runs.here(small_disk, TRAIN_STEPS=3, train__train__stats_period=3) == 0
    if not os.path.ismount(small_disk):
        pytest.skip("needs the right to mount a small file system; see the next test")
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    ballast.write_bytes(b"0" * (free - 100_000))
    capfd.readouterr()
    assert runs.here(small_disk) == 74
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith(f"archobj: error: Could not save checkpoint_6 in {small_disk}")
    assert "(checkpoint_3 is intact). Free space" in message
    assert runs.checkpoints(small_disk) == [3]
    ballast.unlink()
    assert runs.here(small_disk) == 0
    assert runs.checksum(small_disk) == runs.checksum(undisturbed)
    expected = [record for record in runs.metrics(undisturbed) if record["step"] > 3]
    assert [r for r in runs.metrics(small_disk) if r["step"] > 3] == expected


def test_the_save_tells_of_a_full_disk_though_another_file_met_it_first(
    tmp_path, monkeypatch, capfd
):
    def full(self, *_, **__):
        raise MachineError("goodput.json cannot be written")

    def failed(self):
        if self._saving == 3:
            with self._explained(3):
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(Goodput, "record", full)
    monkeypatch.setattr(Checkpoints, "wait", failed)
    assert runs.here(tmp_path, train__train__stats_period=4) == 74
    *_, other, last = capfd.readouterr().err.splitlines()
    assert "goodput.json cannot be written" in other
    assert "Could not save checkpoint_3" in last


def test_a_process_that_may_not_write_so_much_ends_with_a_message(tmp_path):
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "from archobj_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    assert runs.here(tmp_path / "other", TRAIN_STEPS=1) == 0  # so that caches are written already
    command = [sys.executable, "-c", program, *runs.arguments(tmp_path / "run")]
    done = subprocess.run(
        command, cwd=runs.ROOT, env=runs.environment(8), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 74, done.stderr
    assert "Could not save checkpoint_3" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert runs.here(tmp_path / "run") == 0


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.gin", "model-info.txt", "tensorboard"])
def test_whatever_file_cannot_be_written_is_named(name, tmp_path, capfd):
    obstacle = tmp_path / name
    if name == "tensorboard":
        obstacle.write_text("a file where a folder must be")
    else:
        obstacle.mkdir()
    assert runs.here(tmp_path) == 74
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith(f"archobj: error: {tmp_path}")
    assert "cannot be written" in message
    assert runs.checkpoints(tmp_path) == []


def test_a_checkpoints_folder_that_cannot_be_made_is_named(tmp_path, capfd):
    (tmp_path / "checkpoints").write_text("a file where a folder must be")
    assert runs.here(tmp_path) == 74
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith(f"archobj: error: Could not open {tmp_path}/checkpoints")


def test_a_checkpoints_folder_that_goes_away_ends_the_run_at_once(tmp_path, monkeypatch, capfd):
    save = Checkpoints.save

    def after_it_went_away(self, state, about, **loss):
        if int(state.step) == 6:
            self.wait()
            self.directory.rename(tmp_path / "elsewhere")
            self.directory.write_text("a file where a folder must be")
        save(self, state, about, **loss)

    monkeypatch.setattr(Checkpoints, "save", after_it_went_away)
    assert runs.here(tmp_path) == 74
    assert "Could not save checkpoint_6" in capfd.readouterr().err.splitlines()[-1]
    assert not [t for t in threading.enumerate() if "_target_setting_result" in t.name]


def test_an_event_that_cannot_be_written_neither_hangs_nor_hides_the_saves(
    tmp_path, monkeypatch, capfd
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Events, "flush", full)
    assert runs.here(tmp_path) == 74
    assert "No space left on device" in capfd.readouterr().err.splitlines()[-1]
