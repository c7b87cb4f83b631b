"""When a stage is done, and what state it is in before."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from orbax.checkpoint._src.path import gcs_utils

from archobj_jax.errors import UserError
from archobj_jax.study import execution, status
from tests.study.synthetic import (
    FakeArchobj,
    graph,
    made,
    run,
    runner,
    save_about,
    study,
)


def test_a_stage_done_by_a_command_that_was_submitted_counts_as_done(store):
    of = graph(study())
    first = next(iter(of))
    save_about(first, Path(store.folder(first)))
    assert store.state(first, of) == "done"
    assert run(of, store)[0][0] != first.folder


def test_a_stage_that_was_cut_off_between_its_last_save_and_evaluation_goes_on(store):
    of = graph(study())
    run(of, store)
    first = next(iter(of))
    assert store.complete(first)
    store.path(first, "done.json").unlink()
    path = store.path(first, "metrics.jsonl")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    assert not store.is_done(first)
    fake = FakeArchobj(of, store, failures={"cd-flm_tiny": [2]})
    with pytest.raises(UserError):
        runner(of, store, fake).run()
    assert fake.runs == [first.folder]


def test_a_last_checkpoint_that_was_cut_off_in_a_bucket_is_not_done(store, monkeypatch):
    first = next(iter(graph(study())))
    last = save_about(first, Path(store.folder(first)))
    monkeypatch.setattr(gcs_utils, "is_gcs_path", lambda _: True)
    (last / "about" / "commit_success.txt").write_text("")
    assert not store.is_done(first)
    (last / "commit_success.txt").write_text("")
    assert store.is_done(first)


def test_a_stage_stopped_at_its_last_step_before_its_only_evaluation_is_not_done(store):
    first = next(iter(graph(study())))
    folder = Path(store.folder(first))
    save_about(first, folder, evaluation_due=True)
    losses = '{"step": 30, "loss": 2.5}\n'
    (folder / "metrics.jsonl").write_text(losses)
    assert not store.is_done(first)
    (folder / "metrics.jsonl").write_text(losses + '{"step": 30, "eval/task/loss": 2.5}\n')
    assert store.is_done(first)


def test_a_stage_whose_last_checkpoint_is_damaged_is_not_done(store):
    first = next(iter(graph(study())))
    last = save_about(first, Path(store.folder(first)))
    assert store.is_done(first)
    for path in (last / "about").iterdir():
        path.write_text("{")
    assert not store.is_done(first)


@pytest.mark.parametrize(("failed", "complete"), [({}, True), ({"task": "no data"}, False)])
def test_an_evaluation_is_complete_without_failures_and_its_examples_are_not_read(
    store, failed, complete
):
    stage = next(each for each in graph(study()) if each.evaluation is not None)
    results = dataclasses.replace(made(stage, 0.5), failed=failed, settings={"failed": {}})
    path = store.path(stage, "held_out.json")
    results.write(str(path))
    with path.open("ab") as file:
        file.write(b"\xff" * 100_000)  # no text: who reads it fails
    assert store.complete(stage) == complete


@pytest.mark.parametrize("kind", ["pretrain", "evaluate"])
def test_a_stage_at_work_is_running_before_it_has_written_anything_and_then_begun(store, kind):
    of = graph(study())
    stage = next(each for each in of if each.kind == kind)
    with execution.only_one(Path(store.folder(stage)), None):
        store.begin(stage, of, started=time.time())
        assert store.state(stage, of) == "running"
        assert "1 running" in status.status_table(of, store)
    assert store.state(stage, of) == "begun"


def test_states_are_told_with_step_loss_and_time_left(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny": [2]})
    adapted = next(stage for stage in of if stage.kind == "adapt")
    folder = store.path(adapted, "")
    for name in ("done.json", "checkpoints/checkpoint_40"):
        path = folder / name
        path.rmdir() if path.is_dir() else path.unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines()[:10]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3')
    text = status.status_table(of, store)
    rows = {line.split("  ")[1].strip(): line for line in text.splitlines() if "seed 0" in line}
    assert rows["ND:MLM (3K), tiny, seed 0"].split()[-1] == "failed"
    assert rows["ND:MLM (3K) → ND:MTF (1K), tiny, seed 0"].split()[-1] == "waiting"
    adapt = rows["CD:FLM (3K) → ND:MLM (1K), tiny, seed 0"]
    assert adapt.split("seed 0")[1].split() == ["begun", "5", "of", "10", "3.000", "50", "10", "s"]
    assert "1 failed" in text


def test_a_stage_that_runs_again_after_a_failure_is_not_called_failed(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny": [2]})
    stage = next(each for each in of if each.folder.startswith("nd-mlm_tiny"))
    assert store.state(stage, of) == "failed"
    states = []

    def looks(*_, **__):
        states.append(store.state(stage, of))
        return 2

    with pytest.raises(UserError):
        runner(of, store, looks).run()
    assert states == ["running"]
    assert store.state(stage, of) == "failed"


def test_the_marker_of_a_stage_counts_all_its_attempts(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny": [74]})
    stage = next(each for each in of if each.folder.startswith("nd-mlm_tiny"))
    attempts = store.attempts(stage)
    assert [attempt["status"] for attempt in attempts] == [74, 0]
    done = json.loads(store.path(stage, "done.json").read_text())
    assert done["seconds"] == sum(attempt["seconds"] for attempt in attempts)
