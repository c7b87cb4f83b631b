"""Mistakes in flags are one message with the nearest name, before anything is called."""

import subprocess
import sys

import pytest

from launch import flags, gke_commands, local_hosts, tpu_vm_commands
from launch.commit import ROOT
from launch.flags import Flag
from tests.launch.test_tpu_vm import POD, V4

RUN = ["--", "archobj", "train"]
MISTAKES = [
    (["crate", *POD], "there is no subcommand 'crate'. Did you mean 'create'?"),
    (["create", "--acelerator_type=v4-8"], "Did you mean '--accelerator_type'?"),
    (["create", "--tpu_type=v4-8"], "Did you mean '--accelerator_type'?"),
    (["create", "--zone=z"], "give --name=…, or name in the file of --config."),
    (["create", "--name=a"], "give --zone=…"),
    (["create", "--name=Big Pod", "--zone=z"], "--name=Big Pod: expected lower-case letters"),
    (["create", *POD], "give --accelerator_type, e.g. v4-128"),
    (["create", *POD, "--accelerator_type=v9-8"], "(v4, v5litepod, v5p, v6e are); give --runtime"),
    (["create", *V4, "--spot", "--reserved"], "--spot and --reserved exclude each other"),
    (["create", *V4, "--slices=0"], "--slices=0: at least 1"),
    (["create", *V4, "--slices=2", "--no_queue"], "several only by a queued resource"),
    (["create", *V4, "--slices=two"], "invalid int value: 'two'"),
    (["create", *V4, *RUN], "takes no command after --"),
    (["run", *V4], "needs the command to run: … -- archobj train"),
    (["logs", *POD, "--slice=1"], "there are 1, from 0"),
    (["run", *V4, "--env=NAME", *RUN], "--env=NAME: expected NAME=VALUE."),
    (["run", *V4, "--env=A-B=1", *RUN], "--env=A-B=…: not a name of an environment variable."),
    (["run", *V4, *RUN, "--gin.MODEL_DIR=runs/x"], "not a place that all hosts share"),
    (["run", *V4, "--commit=nowhere", *RUN], "git knows no such commit"),
    (["run", *V4, "--commit=HEAD", *RUN, "--gin_file=no.gin"], "not in the commit that is to run"),
    (["create", *POD, "--accelerator_type=v4-100"], "no such slice"),
    (["create", *POD, "--accelerator_type=v4:4x4x4"], "expected an accelerator type, v4-128"),
    (["run", *V4, "--", "archobj", "trian"], "there is no command 'trian'. Did you mean 'train'?"),
    (["run", *V4, *RUN, "--gin_fil=a"], "has no flag '--gin_fil'. Did you mean '--gin_file'?"),
    (["run", *V4, *RUN, "--gin_file=experiments/tiny/cd_flm.gin"], "needs --gin.MODEL_DIR="),
    (["run", *V4, "archobj", "train"], "put -- before the command"),
    (["create", *V4, "--spot=yes"], "expected true or false"),
    (["create", *POD, "--accelerator_type=v5e-16"], "is called v5litepod-16"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_told(cloud, capsys, arguments, message):
    """Those that only a look at the cloud can find call nothing that changes it."""
    more = ["--repository=r"] if "run" in arguments else []
    assert tpu_vm_commands.main([arguments[0], *more, *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("launch/tpu_vm: error: ")
    assert error.count("\n") == 1
    assert cloud.calls("create") == cloud.calls("ssh") == []


def test_programs_that_are_not_installed_are_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tpu_vm_commands.main(["create", *V4]) == 2
    assert "gcloud is not installed here, or not in PATH." in capsys.readouterr().err
    arguments = ["create", "--name=a", "--cluster=b", "--zone=z-a", "--tpu_type=v5p-8"]
    assert gke_commands.main(arguments) == 2
    assert "xpk is not installed here" in capsys.readouterr().err
    assert local_hosts.main(["--", "nowhere"]) == 2
    assert "nowhere is not installed here" in capsys.readouterr().err


FLAGS = {
    "name": Flag(""),
    "slices": Flag("", int, 1),
    "spot": Flag("", bool, False),
    "env": Flag("", dict, {}),
    "kind": Flag("", str, "a", ("a", "b")),
}


def parse(*arguments: str) -> tuple:
    return flags.parse(
        arguments,
        program="p",
        about="",
        flags=FLAGS,
        subcommands={"run": ""},
        needs_command=("run",),
    )


def test_a_switch_of_the_file_can_be_undone(tmp_path):
    file = tmp_path / "pod.toml"
    file.write_text("spot = true")
    assert parse("run", f"--config={file}", "--", "a")[1]["spot"] is True
    assert parse("run", f"--config={file}", "--spot=false", "--", "a")[1]["spot"] is False
    assert parse("run", "--spot", "--", "a")[1]["spot"] is True


def test_flags_of_the_command_line_win_over_the_file(tmp_path):
    file = tmp_path / "pod.toml"
    file.write_text('name = "a b"\nslices = 3\nspot = true\n[env]\nA = "1"\n')
    _, values, command = parse("run", f"--config={file}", "--slices=2", "--", "x", "--", "y")
    assert {name: values[name] for name in FLAGS} == {
        "name": "a b", "slices": 2, "spot": True, "env": {"A": "1"}, "kind": "a",
    }  # fmt: skip
    assert command == ["x", "--", "y"]
    file.write_text('[env]\nA = "1"\nB = "1"\n')
    _, values, _ = parse("run", f"--config={file}", "--env=B=2", "--env=C=3", "--", "x")
    assert values["env"] == {"A": "1", "B": "2", "C": "3"}
    assert FLAGS["env"].default == {}
    _, values, _ = parse("run", "--env=A=1=2", "--env=B=", "--", "x")
    assert values["env"] == {"A": "1=2", "B": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slice = 2", "there is no flag 'slice'. Did you mean 'slices'?"),
        ('slices = "2"', "slices = '2': expected int."),
        ("slices = true", "slices = True: expected int."),
        ("[env]\nA = 1", "expected a table of texts."),
        ('kind = "c"', "kind = 'c': one of a, b."),
        ("= 2", "is not TOML"),
    ],
)
def test_mistakes_in_the_file_are_told(tmp_path, text, message):
    file = tmp_path / "pod.toml"
    file.write_text(text)
    with pytest.raises(flags.UserError) as raised:
        parse("run", f"--config={file}", "--", "x")
    assert message in str(raised.value)


def test_a_misspelt_file_of_flags_is_told_with_the_nearest(tmp_path):
    (tmp_path / "pod.toml").touch()
    with pytest.raises(
        flags.UserError, match=r"pod\.tml: No such file.*Did you mean '.*/pod\.toml'"
    ):
        parse("run", f"--config={tmp_path}/pod.tml", "--", "x")


@pytest.mark.parametrize("program", ["tpu_vm", "gke", "local"])
def test_help_needs_nothing_installed(program):
    """-S: without the packages of the environment."""
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "launch" / program, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"usage: launch/{program} " in done.stdout
