"""The commands of a study for a pod."""

import dataclasses

import pytest

from archobj_jax import job_names
from archobj_jax.errors import UserError
from archobj_jax.study import submitting
from archobj_jax.study.graph import Need
from archobj_jax.study.store import Store
from tests.study.synthetic import ALL, CHAINS, graph, run, study


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
