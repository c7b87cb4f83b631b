"""Several processes are one run, as one process with all their devices; they end together."""

import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end import killing, runs, several
from tests.end_to_end.test_meshes import on

MESH = {"partitioner__Partitioner__fsdp": 2, "partitioner__Partitioner__tensor": 2}
STEPS = {"train__train__stats_period": 1, "train__train__eval_period": 10}
STEPS["checkpoints__SaveCheckpointConfig__period"] = 5


@pytest.fixture(scope="module")
def two(work: Path) -> Path:
    """A run of 12 steps by two processes of two devices each."""
    codes, printed = several.ended(
        several.start(runs.arguments(work / "two", TRAIN_STEPS=12, **STEPS, **MESH))
    )
    assert codes == [0, 0], printed
    return work / "two"


def test_a_run_moves_from_two_processes_to_one_and_to_four(two, tmp_path, monkeypatch):
    on(monkeypatch, 4)
    assert runs.here(tmp_path / "one", TRAIN_STEPS=20, **STEPS, **MESH) == 0
    assert len(list((two / "tensorboard").iterdir())) == 1
    assert runs.here(two, TRAIN_STEPS=16, **STEPS, **MESH) == 0
    arguments = runs.arguments(two, TRAIN_STEPS=20, **STEPS, **MESH)
    codes, printed = several.ended(several.start(arguments, count=4, devices=1))
    assert codes == [0] * 4, printed
    expected, found = runs.metrics(tmp_path / "one"), runs.metrics(two)
    evaluated = {12, 16}  # at the ends of the stages, where the other went on
    assert len([r for r in found if "loss" in r]) == 20
    found = [r for r in found if "loss" in r or r["step"] not in evaluated]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_killed_at_one_of_two_the_other_ends_and_the_restart_is_the_run(two, tmp_path):
    arguments = runs.arguments(tmp_path, TRAIN_STEPS=12, **STEPS, **MESH)
    hosts = several.Hosts(several.start(arguments), victim=1)
    while hosts.poll() is None and killing.newest(tmp_path) < 5:
        time.sleep(0.01)
    hosts.send_signal(signal.SIGKILL)
    _, errors = hosts.communicate()
    assert hosts.statuses == [75, -signal.SIGKILL], errors
    assert "Traceback" not in errors
    assert "process 1" in errors
    assert hosts.survivors_took < 60
    codes, printed = several.ended(several.start(arguments))
    assert codes == [0, 0], printed
    steps = [r for r in runs.metrics(two) if r["step"] <= 12]  # the other test goes on with it
    assert runs.metrics(tmp_path) == steps


@pytest.mark.parametrize(("who", "count"), [(0, 2), (1, 4)])
def test_a_mistake_at_one_ends_all_with_its_message(tmp_path, who, count):
    (tmp_path / "hosts_own_tasks.py").write_text("from tests.end_to_end.word_tasks import *\n")
    arguments = runs.arguments(tmp_path / "run", MIXTURE_OR_TASK_MODULE="hosts_own_tasks")
    have_it = {each: {"PYTHONPATH": str(tmp_path)} for each in range(count) if each != who}
    codes, printed = several.ended(
        several.start(arguments, count=count, devices=1, variables=have_it)
    )
    assert codes == [2] * count, printed
    for index, (_, errors) in enumerate(printed):
        assert "hosts_own_tasks" in errors
        assert "Traceback" not in errors
        assert "fatal" not in errors
        assert index == who or f"process {who}" in errors


def test_processes_that_were_asked_for_different_runs_say_so(tmp_path):
    each = [runs.arguments(tmp_path, TRAIN_STEPS=steps) for steps in (4, 5)]
    codes, printed = several.ended(several.start(each))
    assert codes == [2, 2], printed
    for _, errors in printed:
        assert "process 1 was not started as process 0 was: TRAIN_STEPS is 5 and not 4." in errors
        assert "Traceback" not in errors
    assert not (tmp_path / "checkpoints").exists()


def test_sigterm_to_one_of_two_stops_both_at_one_step(tmp_path):
    endless = {"TRAIN_STEPS": 100_000, "train__train__eval_period": 100_000}
    processes = several.start(runs.arguments(tmp_path, **endless))
    while all(p.poll() is None for p in processes) and killing.newest(tmp_path) < 3:
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    codes, printed = several.ended(processes)
    assert codes == [75, 75], printed
    assert f"saved at step {killing.newest(tmp_path):,}." in printed[0][1]
