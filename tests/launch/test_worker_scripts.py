"""The scripts of launch/worker: what shellcheck says of them, and what a host's reboot leaves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from launch.commit import ROOT
from tests.launch.test_tpu_vm import POD, TRAIN, V4, tpu_vm

SCRIPTS = sorted([*ROOT.glob("launch/worker/*.sh"), *ROOT.glob("tests/launch/*.sh")])


def test_shellcheck_has_nothing_to_say():
    assert len(SCRIPTS) == 6
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


def test_a_host_that_rebooted_is_dead_and_its_run_is_started_again(cloud, capsys):
    cloud.creates("ACTIVE")
    cloud.write("plan", "75 75\n0 0\n")
    tpu_vm("create", *V4)
    tpu_vm("setup", *POD, *cloud.source)
    tpu_vm("train", *POD, *TRAIN)
    while "running" in (said := status(capsys)):
        pass
    assert "exited 75" in said
    # A reboot ends the supervisor before it can leave a status, and frees its lock.
    (cloud.folder / "hosts/cd-flm-w-1/archobj_runs/cd-flm/status").unlink()
    assert "cd-flm-w-1: dead: " in status(capsys)
    assert tpu_vm("run", *V4, *cloud.source, *TRAIN) == 0
    assert len(cloud.calls("start.sh")) == 2


def test_a_shutdown_that_signals_every_process_still_leaves_the_status(tmp_path: Path):
    """As a run does: it needs a while to save, and then ends with 75."""
    saves = 'trap "sleep 0.3; exit 75" TERM; echo ready; while :; do sleep 0.05; done'
    supervisor = subprocess.Popen(
        ["bash", ROOT / "launch/worker/supervise.sh", tmp_path, "bash", "-c", saves],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "ready\n"
    os.killpg(supervisor.pid, signal.SIGTERM)
    assert supervisor.wait(timeout=30) == 0
    assert (tmp_path / "status").read_text() == "75\n"


def status(capsys) -> str:
    capsys.readouterr()
    assert tpu_vm("status", *POD) == 0
    return capsys.readouterr().out
