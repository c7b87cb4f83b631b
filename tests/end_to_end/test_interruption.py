"""SIGKILL, SIGTERM, and losses that are not finite: what goes on, goes on exactly."""

import functools
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from archobj_jax.training import restoring
from archobj_jax.training.evaluation import Evaluation
from tests.end_to_end import killing, runs


def not_finite(rows):
    return {**rows, "decoder_loss_weights": rows["decoder_loss_weights"] * np.float32(np.nan)}


def kill(number: signal.Signals, rows):
    os.kill(os.getpid(), number)
    return rows


def test_a_run_killed_three_times_ends_as_if_it_never_was(tmp_path):
    settings = {"TRAIN_STEPS": 40, "train__train__stats_period": 1}
    starts = {
        name: functools.partial(runs.start, tmp_path / name, **settings) for name in ("once", "cut")
    }
    killing.undisturbed(starts["once"])
    moments = killing.killed(starts["cut"], tmp_path / "cut", kills=3, steps=40, seed=1)
    assert len(moments) == 3
    assert runs.checksum(tmp_path / "cut") == runs.checksum(tmp_path / "once")
    assert runs.metrics(tmp_path / "cut") == runs.metrics(tmp_path / "once")


def test_sigterm_saves_and_says_so_with_a_status(tmp_path):
    process = runs.start(tmp_path, TRAIN_STEPS=100_000, train__train__eval_period=100_000)
    while process.poll() is None and killing.newest(tmp_path) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 75, printed
    assert printed.splitlines()[-1] == (
        f"Stopped by SIGTERM; saved at step {killing.newest(tmp_path):,}."
    )


@pytest.mark.parametrize(
    ("number", "name", "status"),
    [(signal.SIGTERM, "SIGTERM", 75), (signal.SIGINT, "Ctrl-C", 130)],
)
def test_a_run_goes_on_exactly_after_a_signal(
    number, name, status, tmp_path, monkeypatch, undisturbed, capfd
):
    killing.on_batch(monkeypatch, 5, functools.partial(kill, number))
    assert runs.here(tmp_path) == status
    assert runs.checkpoints(tmp_path) == [3, 5]
    assert f"Stopped by {name}; saved at step 5." in capfd.readouterr().err
    assert runs.here(tmp_path) == 0
    assert "Going on from checkpoint_5." in capfd.readouterr().err
    assert runs.checksum(tmp_path) == runs.checksum(undisturbed)
    assert runs.metrics(tmp_path) == runs.metrics(undisturbed)


@pytest.mark.parametrize(("step", "batch"), [(6, 6), (12, 14)])  # two are of an evaluation
def test_an_evaluation_that_a_signal_left_no_time_for_is_made_up(
    step, batch, tmp_path, monkeypatch, undisturbed
):
    evaluate = Evaluation.evaluate

    def cut_off(self, params, number):
        if number == step:
            raise KeyboardInterrupt
        return evaluate(self, params, number)

    with monkeypatch.context() as patch:
        killing.on_batch(patch, batch, functools.partial(kill, signal.SIGTERM))
        patch.setattr(Evaluation, "evaluate", cut_off)
        assert runs.here(tmp_path) == 130
    assert runs.checkpoints(tmp_path)[-1] == step
    for _ in range(2):  # once more: what is there is not evaluated again
        assert runs.here(tmp_path) == 0
        assert runs.metrics(tmp_path) == runs.metrics(undisturbed)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, undisturbed, capfd):
    with monkeypatch.context() as patch:
        killing.on_batch(patch, 5, not_finite)
        assert runs.here(tmp_path) == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith(
        "archobj: error: The loss or gradient of step 5 (batch 4 of the data) is not finite; the "
        "newest checkpoint is of step 3."
    )
    assert runs.here(tmp_path) == 0
    assert runs.checksum(tmp_path) == runs.checksum(undisturbed)
    assert runs.metrics(tmp_path) == runs.metrics(undisturbed)


def test_a_learning_rate_that_is_far_too_high_stops_the_run(tmp_path, capfd):
    assert runs.here(tmp_path, schedules__FactorSchedule__base_learning_rate=1e38) == 2
    assert "is not finite" in capfd.readouterr().err.splitlines()[-1]


def test_steps_that_are_not_finite_can_be_skipped_and_are_counted(tmp_path, monkeypatch):
    skip = functools.partial(runs.here, trainer__Trainer__on_nonfinite="skip")
    with monkeypatch.context() as patch:
        killing.on_batch(patch, 6, not_finite)
        assert skip(tmp_path, TRAIN_STEPS=6) == 0
    assert skip(tmp_path) == 0
    lines = (tmp_path / "metrics.jsonl").read_text()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines.splitlines()]
    counts = {r["step"]: r["skipped_steps"] for r in records if "skipped_steps" in r}
    assert counts == {2: 0, 4: 0, 6: 1, 8: 1, 10: 1, 12: 1}
    losses = {r["step"]: r["loss"] for r in records if "loss" in r}
    assert losses[6] is None
    assert np.isfinite([losses[step] for step in (4, 8, 12)]).all()
    found = restoring.find_checkpoint(str(tmp_path))
    assert restoring.read_about(found)["lineage"][-1]["skipped_steps"] == 1


def test_what_a_cut_off_life_recorded_beyond_its_checkpoint_is_dropped(
    tmp_path: Path, undisturbed: Path
):
    assert runs.here(tmp_path, TRAIN_STEPS=6) == 0
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": 1.0}\n{"step": 10, "lo')
    assert runs.here(tmp_path) == 0
    assert [record["step"] for record in runs.metrics(tmp_path)] == [2, 4, 6, 6, 8, 10, 12, 12]
    assert runs.checksum(tmp_path) == runs.checksum(undisturbed)
