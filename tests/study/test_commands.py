"""`archobj study` from the command line."""

import json
import subprocess
import sys

import pytest

from archobj_jax import cli
from archobj_jax.study.store import Store
from tests.study.synthetic import graph, study, write_outputs

GIN = """
from __gin__ import dynamic_registration

from archobj_jax.study import design

design.Study:
  name = "little"
  sizes = ("tiny",)
  chains = ("CD:FLM 300 steps → CD:MTF 100 steps",)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.gin"
    path.write_text(GIN, encoding="utf-8")
    return path


def archobj(*arguments):
    return cli.main(["study", *map(str, arguments)])


def test_an_unknown_action_is_told_with_the_nearest(file, capsys):
    assert archobj("reprot", file) == 2
    assert "Did you mean 'report'" in capsys.readouterr().err


def test_a_mistake_in_the_file_is_told_without_jax_and_tensorflow(file):
    file.write_text(GIN.replace("CD:FLM", "CD:PLM"), encoding="utf-8")
    text = (
        "import sys; from archobj_jax import cli\n"
        f"assert cli.main(['study', 'run', {str(file)!r}]) == 2\n"
        "assert 'tensorflow' not in sys.modules and 'jax' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "there is no pair 'CD:PLM'" in ended.stderr


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(file, tmp_path, capsys):
    assert archobj("run", file, "--dry_run", f"--store={tmp_path / 'store'}") == 0
    assert capsys.readouterr().out.splitlines() == [
        "little: 2 stages, 0 done, 2 to run.",
        "  to run: 1. pretrain: CD:FLM (682K), tiny, seed 0, 300 steps",
        "  to run: 2. finetune: CD:FLM (682K) → CD:MTF (512K), tiny, seed 0, 100 steps",
    ]
    assert not (tmp_path / "store").exists()


def test_flags_are_over_the_file(file, tmp_path, capsys):
    arguments = ["run", file, f"--store={tmp_path}", "--dry_run"]
    assert archobj(*arguments) == 0
    once = capsys.readouterr().out
    assert archobj(*arguments, "--gin.Study.seeds=(0, 1)") == 0
    assert "seed 1" not in once
    assert "seed 1" in capsys.readouterr().out
    assert archobj(*arguments, "--gin.Study.seed=(0, 1)") == 2
    assert "has no parameter 'seed'. Did you mean 'seeds'?" in capsys.readouterr().err


@pytest.fixture
def locked(monkeypatch):
    def refuse(*_):
        raise PermissionError("no credentials\nat all")

    for name in ("is_done", "last_graph", "ever_asked", "attempts"):
        monkeypatch.setattr(Store, name, refuse)
    return "--store=gs://bucket/study"


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_a_run_into_a_bucket_says_what_to_do_instead_without_reading_it(file, locked, more, capsys):
    assert archobj("run", file, locked, *more) == 2
    assert "archobj study commands" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["status", "report"])
def test_a_bucket_that_cannot_be_read_is_told_in_one_message(file, locked, action, capsys):
    assert archobj(action, file, locked) == 2
    error = capsys.readouterr().err
    assert error.strip().endswith(f"{locked}: cannot be read from here: no credentials")


def test_commands_for_a_bucket_that_cannot_be_read_are_all(file, locked, capsys):
    assert archobj("commands", file, locked) == 0
    text = capsys.readouterr().out
    assert "# gs://bucket/study cannot be read from here, so all stages are listed: no cred" in text
    assert text.count(" -- archobj train ") == 2


def test_commands_are_those_that_archobj_takes(file, tmp_path, capsys):
    assert archobj("commands", file, "--launcher=", f"--store={tmp_path}") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("archobj")]
    assert len(lines) == 2
    assert "--gin.TRAIN_STEPS=300" in lines[0]
    assert "--gin.TRAIN_STEPS=400" in lines[1]


def test_a_file_cut_off_by_a_full_disk_is_no_marker(tmp_path):
    """A marker is put in place whole: what a kill leaves beside it does not count."""
    of = graph(study())
    store, stage = Store(str(tmp_path)), next(iter(graph(study())))
    write_outputs(stage, store.path(stage, ""), 0.5)
    (store.path(stage, "checkpoints") / "checkpoint_30").rmdir()
    store.path(stage, "done.json.tmp").write_text("{")
    assert not store.is_done(stage)
    store.finish(stage)
    assert store.is_done(stage)
    assert json.loads(store.path(stage, "done.json").read_text())["seconds"] == 0
    assert store.state(stage, of) == "done"
