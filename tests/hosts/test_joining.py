"""Joining: what flags and variables must say, and that no wait is endless."""

import fnmatch
import subprocess
import sys
import time

import pytest

from archobj_jax import cli
from archobj_jax.errors import UserError
from archobj_jax.hosts import joining
from tests.end_to_end import runs

TINY = "t5x_configs/experiments/tiny/cd_flm.gin"


def flags(address=None, count=None, index=None):
    return {"coordinator_address": address, "process_count": count, "process_index": index}


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in (*joining.VARIABLES.values(), *joining._SLURM):
        monkeypatch.delenv(name, raising=False)


def test_without_flags_variables_and_cluster_a_process_is_alone():
    assert joining.join(flags(), timeout=1.0) is False


def test_one_of_one_is_alone():
    assert joining.join(flags("127.0.0.1:1", 1, 0), timeout=1.0) is False


def test_flags_come_before_variables(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "a:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "3")
    monkeypatch.setenv("JAX_PROCESS_ID", "2")
    assert joining.told_place(flags()) == joining.Place("a:1", 3, 2)
    assert joining.told_place(flags("b:2", index=0)) == joining.Place("b:2", 3, 0)


def test_the_control_file_of_vfio_that_any_linux_has_is_no_tpu(monkeypatch):
    def there(pattern):
        return [name for name in ("/dev/vfio/vfio",) if fnmatch.fnmatch(name, pattern)]

    monkeypatch.setattr("glob.glob", there)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert not joining.on_tpus()
    monkeypatch.setattr("glob.glob", lambda pattern: ["/dev/vfio/0"] if "vfio" in pattern else [])
    assert joining.on_tpus()


def test_on_slurm_what_is_not_said_is_left_to_the_cluster(monkeypatch):
    for name in joining._SLURM:
        monkeypatch.setenv(name, "2")
    assert joining.told_place(flags()) is None
    assert joining._detectable()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not joining._detectable()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (flags("a:1"), "without --process_count (JAX_NUM_PROCESSES), --process_index"),
        (flags(count=2), "--process_count (JAX_NUM_PROCESSES) given without"),
        (flags("a:1", 2, 2), "--process_index (JAX_PROCESS_ID) = 2: must be below the count, 2"),
        (flags("a:1", -2, 0), "--process_count (JAX_NUM_PROCESSES) = -2: expected a whole number"),
        (flags("a", 2, 0), "--coordinator_address (JAX_COORDINATOR_ADDRESS) = a: expected HOST:P"),
        (flags("a:99999", 2, 0), "a:99999: expected HOST:PORT of process 0"),
    ],
)
def test_what_flags_must_say(given, said):
    with pytest.raises(UserError) as error:
        joining.join(given, timeout=1.0)
    assert said in str(error.value)


def test_a_mistake_in_them_ends_with_status_2(capsys):
    status = cli.main(["train", f"--gin_file={TINY}", "--gin.MODEL_DIR=x", "--process_count=2"])
    assert status == 2
    assert "without --coordinator_address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (1, "process 1 has not reached process 0 at 127.0.0.1:1 in 2 s"),
        (0, "waited for all 2 processes at 127.0.0.1:"),
    ],
)
def test_the_wait_for_others_is_bounded(tmp_path, index, said):
    port = 1 if index else 47_811
    begun = time.monotonic()
    ended = subprocess.run(
        [
            sys.executable, "-m", "archobj_jax", "train", f"--gin_file={TINY}",
            f"--gin.MODEL_DIR={tmp_path}", f"--coordinator_address=127.0.0.1:{port}",
            "--process_count=2", f"--process_index={index}", "--join_timeout=2",
        ],
        cwd=runs.ROOT, env=runs.environment(1), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 75, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "stack trace" not in ended.stderr
    assert time.monotonic() - begun < 60
    assert list(tmp_path.iterdir()) == []
