"""What files and flags bind reaches the call; what was used can be written out and read again."""

import pytest

from archobj_jax import config
from archobj_jax.errors import UserError
from tests.config import models

EXPERIMENT = "tests/config/experiment.gin"


def run(*bindings: str) -> dict[str, object]:
    config.parse([EXPERIMENT], ["MODEL_DIR=runs/x", *bindings], functions=[models.train])
    return config.call(models.train)


def test_later_files_override_earlier_ones_and_flags_override_files():
    assert run()["objective"] == models.SpanCorruption(0.5)
    assert run("OBJECTIVE=@models.FullLm()")["objective"] == models.FullLm()
    assert run("STEPS=3")["total_steps"] == 3
    assert run("STEPS=3", "STEPS=4")["total_steps"] == 4


def test_scopes_tell_two_uses_of_one_class_apart():
    made = run("train/Data.batch_size=4")
    assert made["data"] == models.Data("words", {"targets": 16}, batch_size=4)
    assert made["eval_data"] == models.Data("words", {"targets": 16}, shuffle=False)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("gs://bucket/run", "gs://bucket/run"),
        ("runs/a b", "runs/a b"),
        ("2024-01-01", "2024-01-01"),
        ("it's", "it's"),
        ('"""/quoted as T5X users do"""', "/quoted as T5X users do"),
        ("'3'", "3"),
        ("a=b", "a=b"),
    ],
)
def test_text_needs_no_quotes_and_takes_them(written: str, text: str):
    assert run(f"MODEL_DIR={written}")["model_dir"] == text
    assert run(f"--gin.MODEL_DIR={written}")["model_dir"] == text


def test_flags_name_functions_by_import_or_by_ending_and_read_literals_and_references():
    made = run(
        "models.train.sizes=(1, 2)",
        "tests.config.models.train.total_steps=7",
        "train.optimizer=@Optimizer()",
        "Optimizer.learning_rate=1",
        "train.activation=@models.rectify",
        "models.rectify.floor=0.5",
    )
    assert made["sizes"] == (1, 2)
    assert made["total_steps"] == 7
    assert made["optimizer"] == models.Optimizer(learning_rate=1)
    assert made["activation"](0.1) == 0.5


def test_arguments_of_the_call_win_and_what_they_replace_is_not_required():
    config.parse([EXPERIMENT])
    assert config.call(models.train, model_dir="here")["model_dir"] == "here"


def test_a_call_needs_only_what_it_reads():
    config.parse([EXPERIMENT])  # MODEL_DIR is not set
    assert config.call(models.dry_run).task == "words"


def test_files_are_found_on_the_search_path_and_beside_the_package(tmp_path, monkeypatch):
    (tmp_path / "mine.gin").write_text("STEPS = 5\n")
    monkeypatch.chdir("/")
    config.parse([EXPERIMENT, "mine.gin"], ["MODEL_DIR=x"], [str(tmp_path)])
    assert config.call(models.train)["total_steps"] == 5


def test_operative_config_sets_the_same_again(tmp_path):
    made = run("train.optimizer=@models.Optimizer()", "train/Data.batch_size=4", "STEPS=6")
    text = config.operative_config_str()
    (tmp_path / "config.gin").write_text(text)
    config.parse([str(tmp_path / "config.gin")])
    again = config.call(models.train)
    assert {**again, "activation": None} == {**made, "activation": None}
    assert config.operative_config_str() == text


def test_errors_of_the_library_pass_as_they_were_raised():
    config.parse([], ["models.fail.status=4"], functions=[models.fail])
    with pytest.raises(UserError) as caught:
        config.call(models.fail)
    assert type(caught.value) is UserError
    assert str(caught.value) == "status 4 is not for tests"
