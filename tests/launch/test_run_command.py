"""What a pod asks of a command before anything is paid for: its gin files."""

import pytest

from archobj_jax.errors import UserError
from launch.run_command import check_gin_files

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
