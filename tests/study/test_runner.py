"""What a run of a study does when all goes well, when stages fail, and beside other runs."""

import contextlib
import shutil
import time
from concurrent import futures
from pathlib import Path

import pytest

from archobj_jax.errors import UserError
from archobj_jax.study import execution
from archobj_jax.study.runner import Runner
from tests.study.synthetic import (
    ALL,
    CHAINS,
    FakeArchobj,
    graph,
    run,
    runner,
    study,
    write_outputs,
)


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
            time.sleep(0.2)
            status = super().__call__(arguments, **options)
            order.append(self.runs[-1])
            return status

    fakes = [Slow(of, store) for _ in range(3)]
    runners = [runner(of, store, fake, beside_others=True, look=0.01) for fake in fakes]
    with futures.ThreadPoolExecutor() as pool:
        list(pool.map(Runner.run, runners, timeout=60))
    assert sorted(order) == sorted(stage.folder for stage in of)
    assert sum(bool(fake.runs) for fake in fakes) > 1
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


def test_a_parent_whose_folder_was_removed_on_the_way_is_run_again(store):
    of = graph(study())
    first = next(iter(of))
    fake = FakeArchobj(of, store)

    def execute(arguments, *, log, **options):
        if fake.runs == [first.folder]:
            shutil.rmtree(store.folder(first))
        return fake(arguments, log=log, **options)

    runner(of, store, execute, look=0.01).run()
    assert fake.runs.count(first.folder) == 2
    assert set(fake.runs) == {stage.folder for stage in of}


def test_an_attempt_of_an_older_version_that_ends_after_we_began_is_read(store):
    of = graph(study())
    first = next(iter(of))
    store.begin(first, of, started=time.time())
    store.add_attempt(first, {"started": time.time() + 5, "seconds": 1.0, "status": 2})
    Path(store.folder(first), "log.txt").write_text("archobj: error: the corpus is empty\n")
    with pytest.raises(UserError, match="the corpus is empty"):
        runner(of, store, FakeArchobj(of, store)).run()


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
