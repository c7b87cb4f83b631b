"""The command line: help without heavy imports, nearest names, errors as one message."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archobj_jax import cli
from archobj_jax.commands import COMMANDS, Command, Option
from archobj_jax.errors import MachineError, UserError

_ROOT = Path(__file__).parent.parent


def plain(error: str = "") -> None:
    """Stands for a command's function."""
    if error == "user":
        raise UserError("the corpus is empty")
    if error == "machine":
        raise MachineError("the disk is full")
    if error == "stopped":
        raise SystemExit(75)
    if error == "interrupt":
        raise KeyboardInterrupt
    if error:
        raise ZeroDivisionError(error)


def report(
    data: object,
    model_dir: str,
    operative_config: Callable[[], str],
    text: str = "",
    dry_run: bool = False,
) -> None:
    """Stands for a command that gin binds."""
    assert "report.data = %TASK" in operative_config()
    print(data, model_dir, text, "dry" if dry_run else "wet")


@pytest.fixture
def commands(monkeypatch):
    """Two commands beside the real ones."""
    here = f"{__name__}"
    added = {
        "plain": Command(
            f"{here}:plain", "s", "a", (("archobj plain", ""),), gin=False,
            options={"error": Option("what to raise", default="")},
        ),
        "report": Command(
            f"{here}:report", "s", "a", (("archobj report --gin_file=F", ""),),
            options={
                "text": Option("passed on"),
                "dry_run": Option("a switch", type=bool, sets={"model_dir": ""}),
            },
            keeps_config=True,
        ),
    }  # fmt: skip
    for name, command in added.items():
        monkeypatch.setitem(COMMANDS, name, command)
    monkeypatch.setattr(sys, "path", list(sys.path))


def archobj(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=_ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"},
        check=False,
    )  # fmt: skip


def test_help_of_every_command_needs_neither_jax_nor_tensorflow():
    program = """
import contextlib, io, sys
from archobj_jax.cli import main
from archobj_jax.commands import COMMANDS
for arguments in [[], ["--help"], *([name, "--help"] for name in COMMANDS)]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(arguments)
    assert "exit status:" in out.getvalue(), arguments
    for _, example in COMMANDS[arguments[0]].examples if len(arguments) == 2 else ():
        assert example in out.getvalue()
heavy = {"jax", "flax", "tensorflow", "seqio", "grain", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    assert (done := archobj("-c", program)).returncode == 0, done.stderr


def test_python_m_is_the_same_command():
    done = archobj("-m", "archobj_jax", "trian")
    assert done.returncode == 2
    assert done.stderr == "archobj: error: there is no command 'trian'. Did you mean 'train'?\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "there is no command 'trian'. Did you mean 'train'?"),
        (["xyz"], "there is no command 'xyz'. There are: train, cache, "),
        (["--versoin"], "archobj has no flag '--versoin'. Did you mean '--version'?"),
        (["train", "--gin_files=x"], "train has no flag '--gin_files'. Did you mean '--gin_file'?"),
        (["train", "--dry-run"], "has no flag '--dry-run'. Did you mean '--dry_run'?"),
        (["train", "--gin_file"], "argument --gin_file: expected one argument"),
        (["train", "--gin.STEPS", "3"], "--gin.STEPS: expected --gin.NAME=VALUE"),
        (["train", "x.gin"], "archobj train does not know what to do with 'x.gin'"),
        (["--gin.STEPS=3"], "name a command: train, cache"),
        (["train"], "give --gin_file=…, for instance archobj train --gin_file=t5x_configs/"),
        (["demo", "--gin.STEPS=3"], "--gin.STEPS=3: this command takes no gin flags"),
    ],
)
def test_mistakes_are_one_message_with_the_nearest_name(arguments, expected, capsys):
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("archobj: error: ")
    assert expected in output.err
    assert output.err.count("\n") == 1
    assert not output.out


@pytest.mark.usefixtures("commands")
def test_exit_statuses(capsys):
    assert cli.main(["plain"]) == 0
    assert cli.main(["plain", "--error=user"]) == 2
    assert capsys.readouterr().err == "archobj: error: the corpus is empty\n"
    assert cli.main(["plain", "--error=machine"]) == 74
    assert capsys.readouterr().err == "archobj: error: the disk is full\n"
    assert cli.main(["plain", "--error=interrupt"]) == 130
    with pytest.raises(SystemExit, match="75"):
        cli.main(["plain", "--error=stopped"])
    with pytest.raises(ZeroDivisionError):
        cli.main(["plain", "--error=ours"])


@pytest.fixture
def gin_file(tmp_path) -> str:
    path = tmp_path / "report.gin"
    path.write_text(
        f"include 'tests/config/run.gin'\nfrom __gin__ import dynamic_registration\n"
        f"import {__name__}\n"
        f"{__name__}.report.model_dir = %MODEL_DIR\n{__name__}.report.data = %TASK\n"
    )
    return f"--gin_file={path}"


@pytest.mark.usefixtures("commands")
def test_gin_flags_and_plain_options_reach_the_function(gin_file, capsys):
    assert cli.main(["report", gin_file, "--gin.MODEL_DIR=gs://b", "--text=with spaces"]) == 0
    assert capsys.readouterr().out == "words gs://b with spaces wet\n"
    assert cli.main(["report", "--gin.MODEL_DIR=b", gin_file, "--gin.TASK=c"]) == 0
    assert capsys.readouterr().out == "c b  wet\n"


@pytest.mark.usefixtures("commands")
def test_a_switch_is_passed_with_what_it_sets(gin_file, capsys):
    assert cli.main(["report", gin_file]) == 2
    assert "MODEL_DIR is required: give --gin.MODEL_DIR=…" in capsys.readouterr().err
    assert cli.main(["report", gin_file, "--dry_run"]) == 0
    assert capsys.readouterr().out == "words   dry\n"


def test_every_command_has_three_examples_of_itself():
    for name, command in COMMANDS.items():
        assert len(command.examples) >= 3
        assert sum(line.startswith(f"archobj {name}") for line, _ in command.examples) >= 2
        assert ":" in command.function


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("does", "status", "told"),
    [
        ("print('x' * 100_000)", 141, ""),  # told as it is written
        ("print('x')", 141, ""),  # told as we end
        ("sys.exit(print('x'))", 0, ""),  # as --help does
        ("print('x'); raise UserError('no')", 2, "archobj: error: no\n"),
    ],
)
def test_a_reader_of_the_output_that_has_ended_is_no_error(does, status, told, unbuffered):
    code = (
        "import sys\nfrom archobj_jax import cli\nfrom archobj_jax.errors import UserError\n"
        f"def run(arguments):\n  {does}\n"
        "cli._run = run\nsys.exit(cli.main([]))"
    )
    if unbuffered:  # a print fails at once
        status, told = 141, ""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    finally:
        os.close(writer)
    assert ended.returncode == status
    assert ended.stderr == told


def test_a_broken_pipe_of_something_else_keeps_its_traceback(monkeypatch, capfd):
    def run(_):
        raise BrokenPipeError("of something else")

    monkeypatch.setattr(cli, "_run", run)
    with pytest.raises(BrokenPipeError, match="of something else"):
        cli.main([])


def test_no_output_at_all_is_no_error():
    code = "import sys; from archobj_jax import cli; cli._run = print; sys.exit(cli.main([]))"
    ended = subprocess.run(
        ["bash", "-c", '"$@" >&-', "bash", sys.executable, "-c", code], stderr=subprocess.PIPE
    )
    assert ended.returncode == 0
    assert ended.stderr == b""
