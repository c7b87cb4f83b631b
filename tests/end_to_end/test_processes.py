"""Two processes of two devices each are one run: as one process with four devices."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end import killing, runs
from tests.end_to_end.test_meshes import STEPS, on

FSDP = {"partitioner__Partitioner__fsdp": 4}


def start(model_dir: Path, **bindings: object) -> list[subprocess.Popen]:
    """Starts a run in both processes."""
    return start_processes(runs.arguments(model_dir, **bindings))


def start_processes(arguments: list[str]) -> list[subprocess.Popen]:
    """Starts a command in both processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.process", str(index), "2", port, *arguments],
            cwd=runs.ROOT,
            env=runs.environment(devices=2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def statuses(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Waits for both; returns exit statuses and what was printed on stderr."""
    try:
        printed = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], printed


def test_two_processes_are_one_run(tmp_path, monkeypatch):
    codes, printed = statuses(start(tmp_path / "two", **STEPS, **FSDP))
    assert codes == [0, 0], printed
    on(monkeypatch, 4)
    assert runs.here(tmp_path / "one", **STEPS, **FSDP) == 0
    expected = runs.metrics(tmp_path / "one")
    found = runs.metrics(tmp_path / "two")
    assert [r["step"] for r in found] == [r["step"] for r in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    # What both saved, one reads and goes on from.
    assert runs.here(tmp_path / "two", **{**STEPS, "TRAIN_STEPS": 22}, **FSDP) == 0
    assert runs.here(tmp_path / "one", **{**STEPS, "TRAIN_STEPS": 22}, **FSDP) == 0
    losses = runs.losses(tmp_path / "two")
    assert len(losses) == 22
    assert losses == pytest.approx(runs.losses(tmp_path / "one"), abs=1e-5, rel=0)


def test_sigterm_to_one_of_two_stops_both_at_one_step(tmp_path):
    processes = start(tmp_path, TRAIN_STEPS=100_000, train__train__eval_period=100_000)
    while all(p.poll() is None for p in processes) and killing.newest(tmp_path) < 3:
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    codes, printed = statuses(processes)
    assert codes == [75, 75], printed
    assert f"saved at step {killing.newest(tmp_path):,}." in printed[0]
