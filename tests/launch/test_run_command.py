"""What a pod asks of a command before anything is paid for: its gin files and places."""

import pytest

from archobj_jax.errors import UserError
from launch.run_command import check_gin_files, for_pod

FILES = ["t5x_configs/experiments/xxl/cd_flm.gin", "mine/my_run.gin", "README.md"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gin_file=t5x_configs/experiments/xxl/cd_flm.gin"],
        ["--gin_file=experiments/xxl/cd_flm.gin"],
        ["--gin_file", "./mine/my_run.gin"],
        ["--gin_file=gs://bucket/my_run.gin"],
        ["--gin_file=/mnt/my_run.gin"],
        ["--gin_file=other.gin", "--gin_search_paths=/mnt"],
        ["--gin.MODEL_DIR=gs://bucket/run"],
    ],
)
def test_files_that_the_workers_will_find(arguments):
    check_gin_files(["env", "A=b", "archobj", "train", *arguments], FILES)


@pytest.mark.parametrize("form", [["--gin_file={}"], ["--gin_file", "{}"]])
def test_a_file_that_the_commit_lacks_is_told_with_the_nearest(form):
    arguments = [each.format("t5x_configs/experiments/xxl/cd_fml.gin") for each in form]
    with pytest.raises(UserError, match=r"cd_fml\.gin: not in the commit .* Did you mean .*cd_flm"):
        check_gin_files(["archobj", "train", *arguments], FILES)


def test_an_unknown_commit_and_other_programs_are_let_pass():
    check_gin_files(["archobj", "train", "--gin_file=none.gin"], [])
    check_gin_files(["mine", "--gin_file=none.gin"], FILES)


PLACES = [f"gin.{name}" for name in ("MODEL_DIR", "EVAL_OUTPUT_DIR", "CHECKPOINT_PATH")]
PLACES += ["gin.INITIAL_CHECKPOINT_PATH", "store"]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_hosts_do_not_share_is_an_error(place):
    for where in ("runs/x", "'runs/x'", "./x", "~/x"):
        with pytest.raises(UserError, match=f"^--{place}={where}: not a place that all hosts"):
            for_pod(["env", "A=b", "archobj", "train", f"--{place}={where}"], {})


@pytest.mark.parametrize("where", ["gs://b/x", "'gs://b/x'", "/mnt/x", "%OTHER", "None", ""])
def test_a_place_that_hosts_share_is_let_pass(where):
    command = ["env", "archobj", "evaluate", *(f"--{place}={where}" for place in PLACES)]
    assert for_pod(command, {}) == command


def test_a_study_on_a_host_must_be_told_where_its_stages_lie():
    with pytest.raises(UserError, match="archobj study: give --store="):
        for_pod(["env", "A=b", "archobj", "study", "run", "study.gin"], {})
    for_pod(["archobj", "study", "run", "study.gin", "--store=/mnt/study"], {})


def test_a_path_of_this_machine_or_a_file_not_committed_is_told(tmp_path):
    (tmp_path / "new.gin").write_text("")
    with pytest.raises(UserError, match=r"name it from there: mine/my_run\.gin"):
        check_gin_files(
            ["archobj", "train", f"--gin_file={tmp_path}/mine/my_run.gin"], FILES, tmp_path
        )
    with pytest.raises(UserError, match="It is here, but not committed: commit and push it"):
        check_gin_files(["archobj", "train", "--gin_file=new.gin"], FILES, tmp_path)
