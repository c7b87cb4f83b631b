"""What a run of a study does when all goes well, when stages fail, and when it is cut off."""

import contextlib
import dataclasses
import json
import time
from concurrent import futures
from pathlib import Path

import pytest
from orbax.checkpoint._src.path import gcs_utils

from archobj_jax import job_names
from archobj_jax.errors import UserError
from archobj_jax.study import changes, execution, status, submitting
from archobj_jax.study.graph import Need
from archobj_jax.study.runner import Runner
from archobj_jax.study.store import Store
from tests.study.synthetic import CHAINS, FakeArchobj, graph, made, save_about, study, write_outputs

ALL = 12  # six training stages and their evaluations


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def runner(of, store, fake, **options):
    return Runner(of, store, {}, execute=fake, pause=0.0, say=lambda _: None, **options)


def run(of, store, **options):
    """Runs; returns the folders of the stages run, and the message of what failed."""
    fake = FakeArchobj(of, store, **options)
    try:
        runner(of, store, fake).run()
    except UserError as error:
        return fake.runs, str(error)
    return fake.runs, ""


def test_every_stage_is_run_once_after_its_parent(store):
    of = graph(study())
    runs, _ = run(of, store)
    assert runs == [stage.folder for stage in of]
    assert len(set(runs)) == ALL


def test_what_is_done_is_left_alone(store):
    of = graph(study())
    run(of, store)
    assert run(of, store)[0] == []


def test_a_stage_that_another_study_ran_is_not_run_again(store):
    run(graph(study(chains=CHAINS[:1], name="first")), store)
    runs, _ = run(graph(study(name="second")), store)
    assert len(runs) == ALL - 4
    assert not any(name.startswith(("cd-flm_cd-mtf", "cd-flm_tiny")) for name in runs)


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


@pytest.mark.parametrize("passing", [74, 75, -9, 137])
def test_what_fails_for_a_passing_reason_is_tried_again(store, passing):
    of = graph(study())
    runs, message = run(of, store, failures={"nd-mlm_tiny": [passing, passing]})
    assert message == ""
    assert len(runs) == ALL + 2


def test_what_fails_so_again_and_again_is_given_up(store):
    runs, message = run(graph(study()), store, failures={"nd-mlm_tiny": [74] * 9})
    assert sum(name.startswith("nd-mlm_tiny") for name in runs) == 3
    assert "exit status 74" in message


@pytest.mark.parametrize("lasting", [1, 2])
def test_other_branches_of_a_stage_that_fails_are_run(store, lasting):
    runs, message = run(graph(study()), store, failures={"nd-mlm_tiny": [lasting]})
    assert sum(name.startswith("nd-mlm_tiny") for name in runs) == 1
    assert len(runs) == ALL - 3
    assert f"exit status {lasting}" in message


def test_what_failed_is_told_with_why_and_with_what_waits_for_it(store):
    of = graph(study())
    _, message = run(of, store, failures={"nd-mlm_tiny": [2]})
    assert message.startswith("1 of 12 stages failed:")
    assert "- ND:MLM (3K), tiny, seed 0: exit status 2" in message
    assert "archobj: error: the corpus is empty" in message
    assert "archobj train --gin_file=experiment.gin" in message
    waiting = message.partition("not run")[2]
    assert "ND:MLM (3K) → ND:MTF (1K), tiny, seed 0" in waiting
    assert "CD:FLM" not in waiting


def test_once_mended_only_what_is_missing_is_run(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny": [2]})
    runs, message = run(of, store)
    assert message == ""
    assert len(runs) == 4


def test_a_run_that_is_cut_off_anywhere_goes_on_to_the_same_end(store):
    of = graph(study())
    for cut in range(ALL):
        fake = FakeArchobj(of, store)

        def dies(arguments, *, fake=fake, **options):
            fake(arguments, **options)
            raise KeyboardInterrupt  # nothing after the command itself was written

        with pytest.raises(KeyboardInterrupt):
            runner(of, store, dies).run()
        assert len(fake.runs) == 1, cut
    assert run(of, store)[0] == []


def test_several_beside_each_other_run_every_stage_once_and_after_its_parent(store):
    of = graph(study(seeds=(0, 1)))
    order = []

    class Slow(FakeArchobj):
        def __call__(self, arguments, **options):
            time.sleep(0.02)
            status = super().__call__(arguments, **options)
            order.append(self.runs[-1])
            return status

    fakes = [Slow(of, store) for _ in range(3)]
    runners = [runner(of, store, fake, beside_others=True, look=0.01) for fake in fakes]
    with futures.ThreadPoolExecutor() as pool:
        list(pool.map(Runner.run, runners, timeout=60))
    assert sorted(order) == sorted(stage.folder for stage in of)
    assert all(fake.runs for fake in fakes)
    for stage in of:
        parent = of.parent(stage)
        assert parent is None or order.index(parent.folder) < order.index(stage.folder)


def test_beside_others_a_stage_that_another_is_at_is_passed_over_and_then_waited_for(store):
    of = graph(study())
    first = next(iter(of))
    below = [each.folder for each in of if first in of.ancestors(each)]
    said = []

    def say(line):
        said.append(line)
        if "Others are at" in line:
            assert len(fake.runs) == ALL - 1 - len(below)
            write_outputs(first, Path(store.folder(first)), 0.6)
            lock.close()

    fake = FakeArchobj(of, store)
    with contextlib.ExitStack() as lock:
        lock.enter_context(execution.only_one(Path(store.folder(first)), None))
        Runner(of, store, {}, execute=fake, look=0.01, beside_others=True, say=say).run()
    assert fake.runs[-len(below) :] == below
    assert first.folder not in fake.runs
    assert sum("Others are at" in line for line in said) == 1


def test_beside_others_what_failed_for_good_in_anothers_hands_is_told_and_not_tried_again(store):
    of = graph(study())
    stage = next(each for each in of if each.folder.startswith("nd-mlm_tiny"))
    calm = runner(of, store, fake := FakeArchobj(of, store), beside_others=True)
    run(of, store, failures={"nd-mlm_tiny": [2]})
    with pytest.raises(UserError, match=r"exit status 2\n  archobj: error: the corpus is empty"):
        calm.run()
    assert fake.runs == []
    assert store.state(stage, of) == "failed"
    assert run(of, store) == (
        [each.folder for each in of if each == stage or stage in of.ancestors(each)],
        "",
    )


def test_an_accident_of_ours_is_no_failure_of_the_stage(store):
    of = graph(study())
    first = next(iter(of))
    calm = runner(of, store, FakeArchobj(of, store), beside_others=True)

    def accident(arguments, **_):
        raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        runner(of, store, accident).run()
    assert store.attempts(first) == []
    assert store.state(first, of) == "begun"
    calm.run()
    assert store.is_done(first)


def attempt_of_another(store, stage, status, *, started, seconds, stopped=False):
    log = Path(store.folder(stage)) / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    made = {"started": started, "log_from": log.stat().st_size if log.exists() else 0}
    with log.open("a") as file:
        file.write(f"archobj: error: {status} at {started:.0f}\n")
    made |= {"status": status, "seconds": seconds, "stopped": stopped}
    store.add_attempt(stage, made)


def test_what_was_begun_before_us_and_failed_after_is_not_tried_again(store):
    of = graph(study(chains=CHAINS[1:2]))
    first = next(iter(of))
    calm = runner(of, store, fake := FakeArchobj(of, store), beside_others=True)
    attempt_of_another(store, first, 2, started=calm.began - 3600, seconds=3660)
    with pytest.raises(UserError, match="exit status 2"):
        calm.run()
    assert fake.runs == []


def test_what_failed_before_we_began_is_tried_again(store):
    of = graph(study(chains=CHAINS[1:2]))
    calm = runner(of, store, FakeArchobj(of, store), beside_others=True)
    attempt_of_another(store, next(iter(of)), 2, started=calm.began - 3600, seconds=3000)
    calm.run()


def test_beside_others_a_passing_failure_is_tried_three_times_all_together(store):
    of = graph(study())
    fakes = [FakeArchobj(of, store, failures={"nd-mlm_tiny": [74] * 9}) for _ in range(3)]
    for each in [runner(of, store, fake, beside_others=True) for fake in fakes]:
        with pytest.raises(UserError, match="exit status 74"):
            each.run()
    runs = [name for fake in fakes for name in fake.runs if name.startswith("nd-mlm_tiny")]
    assert len(runs) == 3


def test_what_another_was_told_to_stop_counts_as_no_failure(store):
    of = graph(study(chains=CHAINS[1:2]))
    first = next(iter(of))
    fake = FakeArchobj(of, store, failures={first.folder: [74, 74]})
    calm = runner(of, store, fake, beside_others=True)
    for ended in (75, 130, 130):
        attempt_of_another(store, first, ended, started=calm.began, seconds=1, stopped=True)
    calm.run()
    assert fake.runs.count(first.folder) == 3


def test_a_failure_in_anothers_hands_is_explained_by_the_last_attempt_alone(store):
    of = graph(study(chains=CHAINS[1:2]))
    first = next(iter(of))
    calm = runner(of, store, FakeArchobj(of, store), beside_others=True)
    attempt_of_another(store, first, 2, started=calm.began - 3600, seconds=3000)
    with store.path(first, "log.txt").open("a") as file:
        at = file.tell()
        file.write("Traceback\n")
    made = {"started": calm.began, "seconds": 1, "status": 1, "stopped": False, "log_from": at}
    store.add_attempt(first, made)
    with pytest.raises(UserError, match=r"exit status 1\n  Traceback") as told:
        calm.run()
    assert "archobj: error: 2" not in str(told.value)


def test_told_to_stop_it_stops_and_keeps_what_was_begun(store):
    of = graph(study())

    def stopped(arguments, **_):
        raise execution.StoppedError(75, ended=75)

    with pytest.raises(execution.StoppedError):
        runner(of, store, stopped).run()
    assert store.state(next(iter(of)), of) == "begun"
    assert len(run(of, store)[0]) == ALL


@pytest.mark.parametrize(
    ("kept", "ended", "told"),
    [
        ([10, 20], 75, "stopped by SIGTERM, checkpoint at step 20 of 30"),
        ([], 130, "stopped by Ctrl-C, no checkpoint yet"),
        ([], -15, "stopped by SIGTERM, no checkpoint yet"),
    ],
)
def test_told_to_stop_it_says_how_the_stage_ended_and_what_it_has(store, kept, ended, told):
    said = []

    def stopped(arguments, *, log, **_):
        for step in kept:
            (log.parent / "checkpoints" / f"checkpoint_{step}").mkdir(parents=True)
        raise execution.StoppedError(75, ended=ended)

    with pytest.raises(execution.StoppedError):
        Runner(graph(study()), store, {}, execute=stopped, say=said.append).run()
    assert told in said[-1]


def test_a_failure_is_explained_by_its_own_attempt(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny": [2]})
    _, message = run(of, store, failures={"nd-mlm_tiny": [-9, -9, -9]})
    assert "signal 9\n  working" in message
    assert "the corpus is empty" not in message


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


def test_a_run_says_what_is_new_and_what_an_edit_supersedes_and_why(store):
    of = graph(study())
    assert "12 stages, 0 done, 12 to run" in changes.summary(of, store)
    store.keep_graph(of)
    run(of, store)
    assert "12 done, 0 to run" in changes.summary(of, store)
    edited = graph(study(chains=CHAINS[:2]), config="A = 2")
    text = changes.summary(edited, store)
    assert "8 stages, 0 done, 8 to run" in text
    assert "superseded: CD:FLM (3K), tiny, seed 0: A: 1 -> 2" in text
    assert "no longer asked for (stays): CD:FLM (3K) → ND:MLM (1K), tiny, seed 0" in text


def test_stages_of_another_study_are_told_to_be_reused(store):
    run(graph(study(chains=CHAINS[:1], name="first")), store)
    text = changes.summary(graph(study(name="second")), store)
    assert "\n  run by another study, and reused: 1-4.\n" in text


def test_an_edit_of_a_budget_is_told_as_that_and_not_as_stages_of_their_own(store):
    of = graph(study())
    store.keep_graph(of)
    run(of, store)
    shorter = tuple(chain.replace("ND:MLM 10 steps", "ND:MLM 5 steps") for chain in CHAINS)
    lines = changes.summary(graph(study(chains=shorter)), store).splitlines()
    adapted, finetuned = (
        f"  superseded: CD:FLM (3K) → ND:MLM (1K){end}, tiny, seed 0: "
        "budget of ND:MLM: 10 steps -> 5 steps"
        for end in ("", " → ND:MTF (1K)")
    )
    assert [line for line in lines if "superseded:" in line] == [adapted, finetuned]
    assert lines[lines.index(adapted) + 1].startswith("    the old one stays: ")
    assert lines[-1] == "  superseded with what they evaluate (stay): 2 evaluations"


def test_a_budget_that_others_keep_beside_a_changed_one_is_not_taken_for_it(store):
    store.keep_graph(of := graph(study(chains=("CD:FLM 10 steps", "CD:FLM 20 steps"))))
    run(of, store)
    text = changes.summary(graph(study(chains=("CD:FLM 20 steps", "CD:FLM 40 steps"))), store)
    assert "superseded: CD:FLM (1K), tiny, seed 0: budget of CD:FLM: 10 steps -> 40 steps" in text
    text = changes.summary(graph(study(chains=("CD:FLM 20 steps",))), store)
    assert "no longer asked for (stays): CD:FLM (1K), tiny, seed 0" in text
    assert "superseded" not in text


def test_a_study_knows_its_own_stages_when_an_edit_is_undone(store):
    first, edited = graph(study()), graph(study(), config="A = 2")
    for each in (first, edited):
        store.keep_graph(each)
        run(each, store)
    text = changes.summary(first, store)
    assert "12 done, 0 to run" in text
    assert "another study" not in text


def test_stages_of_as_many_tokens_in_one_leg_and_in_two_are_told_apart(store):
    chains = ("CD:FLM 20 steps → CD:FLM 20 steps", "CD:FLM 40 steps")
    of = graph(study(chains=chains))
    assert len({stage.label for stage in of}) == len(of)
    store.keep_graph(of)
    run(of, store)
    text = changes.summary(graph(study(chains=chains), config="A = 2"), store)
    for label in ("CD:FLM (2K + 2K)", "CD:FLM (4K)"):
        assert f"superseded: {label}, tiny, seed 0: A: 1 -> 2" in text


def test_commands_are_numbered_and_name_what_they_wait_for(store):
    of = graph(study())
    text = submitting.commands(of, store, launcher="launch/tpu_vm run --name={name} --")
    blocks = text.split("\n\n")[1:]
    assert len(blocks) == ALL
    comment, command = blocks[2].splitlines()
    assert comment == "# 3. finetune: CD:FLM (3K) → CD:MTF (1K), tiny, seed 0, after 1"
    name = f"synthetic-cd-flm-to-cd-mtf-{list(of)[2].fingerprint[:8]}"
    assert command.startswith(f"launch/tpu_vm run --name={name} -- archobj ")
    first = blocks[0].split("--gin.MODEL_DIR=")[1].split()[0]
    assert f"--gin.INITIAL_CHECKPOINT_PATH={first}" in command
    assert "--gin.TRAIN_STEPS=40" in command


def test_commands_leave_out_what_is_done(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny": [2]})
    text = submitting.commands(of, store, launcher="")
    assert "4 to run" in text
    assert text.count("\narchobj ") == 4


def test_commands_wait_for_no_stage_that_is_done(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny_seed0_": [2], "cd-flm_cd-mtf": [2]})
    text = submitting.commands(of, store, launcher="")
    assert "# 3. finetune: CD:FLM (3K) → CD:MTF (1K), tiny, seed 0\n" in text
    assert "# 4. evaluate: Held out of CD:FLM (3K) → CD:MTF (1K), tiny, seed 0, after 3\n" in text


def header(of, store, launcher):
    """The comment before the first command, as one line."""
    text = submitting.commands(of, store, launcher=launcher)
    return " ".join(line.removeprefix("# ") for line in text.partition("\n\n")[0].splitlines())


def test_commands_of_a_launcher_say_what_stays_and_costs(store):
    of = graph(study())
    slices = header(of, store, "launch/tpu_vm run --name={name} --")
    assert "a slice of its own name, which stays, and costs, until `launch/tpu_vm del" in slices
    assert "--delete_when_done" in slices
    assert "docs/pods.md" in slices
    assert "the cluster stays, and costs" in header(of, store, "launch/gke run --name={name} --")
    assert "costs" not in header(of, store, "")


def test_commands_of_a_study_without_a_place_for_caches_say_so(store):
    of = graph(study())
    launcher = "launch/tpu_vm run --name={name} --"
    assert "binds no CACHE_DIR" in header(of, store, launcher)
    assert "CACHE_DIR" not in header(of, store, "")
    cached = {
        key: dataclasses.replace(stage, bindings=("CACHE_DIR=/mnt/BUCKET/cache",))
        for key, stage in of.stages.items()
    }
    assert "CACHE_DIR" not in header(dataclasses.replace(of, stages=cached), store, launcher)


def test_commands_say_what_the_stages_left_need_there(store):
    of = graph(study())
    keys = list(of.stages)
    needs = (Need("the extra `eval`", (keys[1], keys[3]), False),)
    of = dataclasses.replace(of, needs=needs)
    told = "needed by stages 2, 4: the extra `eval`"
    launcher = "launch/tpu_vm run --name={name} --"
    assert f"{told} There, variables are set in [env] of pod.toml" in header(of, store, launcher)
    assert header(of, store, "").endswith(told)
    run(of, store, failures={"suite_of_cd-flm_cd-mtf": [2]})
    assert "needed by stage 4: the extra" in header(of, store, "")


@pytest.mark.parametrize(
    "launcher",
    ["launch/tpu_vm run --config=pod.toml --", "./launch/gke run --", "launch/tpu_vm --name={nam}",
     "mine {Name}"],
)  # fmt: skip
def test_a_launcher_that_does_not_tell_stages_apart_is_an_error(store, launcher):
    with pytest.raises(UserError, match=r"^--launcher.*\{name\}"):
        submitting.commands(graph(study()), store, launcher=launcher)


def test_a_launcher_of_ones_own_needs_no_name(store):
    assert "\nmine {zone} archobj train" in submitting.commands(
        graph(study()), store, launcher="mine {zone}"
    )


def test_names_of_jobs_are_such_that_the_clouds_take_them(store):
    of = graph(study(name="a_study_with_quite_a_long_name_indeed"))
    names = [submitting.job_name(of, stage) for stage in of]
    assert len(set(names)) == len(names)
    assert all(job_names.PATTERN.fullmatch(name) for name in names)


def test_a_job_has_another_name_once_its_stage_is_another_and_only_then():
    def names(of):
        return {submitting.job_name(of, stage) for stage in of}

    assert names(graph(study(chains=CHAINS[1:]))) < names(graph(study()))
    assert not names(graph(study())) & names(graph(study(), config="A = 2"))


def test_braces_of_the_launcher_are_the_shells_but_for_the_name(store):
    of = graph(study())
    text = submitting.commands(of, store, launcher="${RUN} --x={a,b} --name={name} }{ --")
    assert (
        f"\n${{RUN}} --x={{a,b}} --name={submitting.job_name(of, next(iter(of)))} }}{{ -- " in text
    )


@pytest.mark.parametrize("place", ["runs/study", "./x", "~/x"])
def test_commands_for_a_pod_are_not_of_a_folder_of_this_machine(place):
    of = graph(study())
    with pytest.raises(UserError, match=r"--store=gs://BUCKET/study, or the full path"):
        submitting.commands(of, Store(place), launcher="launch/tpu_vm run --name={name} --")
    assert place in submitting.commands(of, Store(place), launcher="")


def test_the_marker_of_a_stage_counts_all_its_attempts(store):
    of = graph(study())
    run(of, store, failures={"nd-mlm_tiny": [74]})
    stage = next(each for each in of if each.folder.startswith("nd-mlm_tiny"))
    attempts = store.attempts(stage)
    assert [attempt["status"] for attempt in attempts] == [74, 0]
    done = json.loads(store.path(stage, "done.json").read_text())
    assert done["seconds"] == sum(attempt["seconds"] for attempt in attempts)
