"""`launch/gke` against programs that record what they are called with."""

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from launch import commit
from launch.gke_commands import main
from tests.launch.conftest import HERE, Cloud, hurried, install
from tests.launch.nasty import ARGUMENTS

RUN = ["--name=cd-flm", "--cluster=tpus", "--project=my-project", "--zone=us-east5-a"]
V5P = [*RUN, "--tpu_type=v5p-256", "--image=docker.example/archobj", "--commit=HEAD"]
TRAIN = ["--", "archobj", "train", "--gin_file=CONTRIBUTING.md"]
COMPLETED = {"conditions": [{"type": "Completed", "status": "True"}]}
FAILED = {"conditions": [{"type": "Failed", "status": "True"}], "restarts": 2}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    (tmp_path / "bin").mkdir()
    for name in ("xpk", "kubectl", "docker", "gcloud"):
        install(HERE / "fake_tools.py", tmp_path / "bin" / name)
    monkeypatch.setenv("FAKE_CLOUD", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    cloud = Cloud(tmp_path, commit.ROOT, commit.pinned("HEAD", pushed=False))
    cloud.write("images", "")
    cloud.write("jobset.json", json.dumps([None, {}, COMPLETED]))
    cloud.write("pods.json", json.dumps(pods()))
    return cloud


def pods(*statuses: int) -> dict:
    def pod(status: int) -> dict:
        ended = {"terminated": {"exitCode": status}}
        return {"status": {"phase": "Failed", "containerStatuses": [{"state": ended}]}}

    return {"items": [pod(status) for status in statuses]}


def gke(*arguments: str) -> int:
    return main(arguments, hurried())


def test_a_run_makes_cluster_image_and_jobset_and_waits_for_its_end(cluster, capsys):
    assert gke("run", *V5P, "--spot", *TRAIN) == 0
    image = f"docker.example/archobj:{cluster.commit}"
    expected = [
        "xpk cluster create --tpu-type=v5p-256 --num-slices=1 --cluster=tpus --zone=us-east5-a "
        "--project=my-project --spot",
        f"docker manifest inspect {image}",
        f"docker build --platform=linux/amd64 --tag={image} --file=launch/Dockerfile -",
        f"docker push {image}",
        "gcloud container clusters get-credentials tpus --location=us-east5 --project=my-project",
        "kubectl --context=gke_my-project_us-east5_tpus get jobset cd-flm --output=json",
        f"xpk workload create --workload=cd-flm --tpu-type=v5p-256 --num-slices=1 "
        f"--docker-image={image} --priority=medium --max-restarts=100 "
        "--restart-on-exit-codes=75 --termination-grace-period-seconds=300 "
        "--command=exec archobj train --gin_file=CONTRIBUTING.md --cluster=tpus "
        "--zone=us-east5-a --project=my-project",
    ]
    assert cluster.calls()[: len(expected)] == expected
    with tarfile.open(cluster.folder / "context.tar") as context:
        assert "requirements.lock" in context.getnames()
    assert "cd-flm: done: done: trained to the last step" in capsys.readouterr().out


def test_arguments_arrive_exactly_through_the_manifest(cluster, tmp_path):
    """The command as xpk and Kubernetes treat it: a line of a YAML block, variables expanded."""
    variables = ["--env=GREETING=it's $HOME\n*"]
    assert gke("train", *V5P, *variables, "--", "env", "archobj", *ARGUMENTS) == 0
    (call,) = [call for call in cluster.argument_lists() if "workload" in call]
    (command,) = [word.removeprefix("--command=") for word in call if "--command=" in word]
    assert "\n" not in command
    assert command.isascii()
    expanded = re.sub(r"\$(\$|\((\w+)\))", lambda found: found[2] or "$", command)
    assert expanded == command
    block = f"trap : TERM\n({expanded}) & PID=$!\nwait $PID\nexit $?\n"
    program = tmp_path / "bin/archobj"
    program.write_text('#!/bin/bash\nprintf "%s\\0" "$GREETING" "$@" >"$OUTPUT"\nexit 75\n')
    program.chmod(0o755)
    environment = os.environ | {"OUTPUT": str(tmp_path / "output")}
    assert subprocess.run(["bash", "-c", block], env=environment).returncode == 75
    greeting, *arguments = (tmp_path / "output").read_bytes().decode().split("\0")[:-1]
    assert greeting == "it's $HOME\n*"
    assert arguments == ARGUMENTS


def test_an_image_that_is_there_is_not_built_again(cluster, capsys):
    cluster.write("images", f"docker.example/archobj:{cluster.commit}")
    assert gke("setup", *V5P) == 0
    assert cluster.calls("docker build") == cluster.calls("docker push") == []
    assert "is there" in capsys.readouterr().out


def test_a_run_that_is_there_is_left_alone_and_one_that_ended_started_anew(cluster, capsys):
    cluster.write("jobset.json", json.dumps([{"restarts": 1}]))
    assert gke("train", *V5P, *TRAIN) == 0
    assert "is there already, running on 0 pods, 1 restarts" in capsys.readouterr().out
    assert cluster.calls("xpk workload create") == []
    cluster.write("jobset.json", json.dumps([FAILED]))
    cluster.write("pods.json", json.dumps(pods(2, 75)))
    assert gke("train", *V5P, *TRAIN) == 0
    verbs = [call.split()[2] for call in cluster.calls("xpk workload")]
    assert verbs == ["delete", "create"]


def test_another_command_or_commit_under_a_name_that_is_there_is_an_error(cluster, capsys):
    given = ["--", "env", "archobj", *ARGUMENTS]
    assert gke("train", *V5P, *given) == 0
    cluster.write("jobset.json", json.dumps([{}]))
    assert gke("train", *V5P, *given) == 0
    assert gke("train", *V5P, *given, "--more") == 2
    assert "cd-flm, something else is there: `exec env archobj $'' $'two" in capsys.readouterr().err
    assert gke("train", *V5P, f"--commit={'a' * 40}", *given) == 2
    image = "docker.example/archobj"
    assert f"`{image}:{cluster.commit}`, not `{image}:aaaa" in capsys.readouterr().err
    assert len(cluster.calls("xpk workload create")) == 1
    assert cluster.calls("xpk workload delete") == []


@pytest.mark.parametrize(
    ("statuses", "status", "told"),
    [
        ((143, 2), 2, "needs mending"),
        ((1,), 1, "a defect"),
        ((75, 74), 75, "run again"),
        ((), 75, "a worker was restarted or lost"),
    ],
)
def test_the_end_is_told_by_what_the_pods_ended_with(cluster, capsys, statuses, status, told):
    cluster.write("images", f"docker.example/archobj:{cluster.commit}")
    cluster.write("jobset.json", json.dumps([None, {}, FAILED]))
    cluster.write("pods.json", json.dumps(pods(*statuses)))
    assert gke("run", *V5P, *TRAIN) == status
    assert told in capsys.readouterr().out


def test_a_cluster_out_of_reach_is_waited_for_though_not_for_ever(cluster, capsys):
    cluster.write("jobset.json", json.dumps([{}]))
    cluster.write("fails", "get jobset")
    assert gke("status", *RUN) == 74
    assert "Unable to connect" in capsys.readouterr().err
    (cluster.folder / "fails").unlink()
    cluster.write("jobset.json", json.dumps([{}, None]))
    assert gke("run", *V5P, "--poll=1", *TRAIN) == 74
    assert "cd-flm is gone" in capsys.readouterr().err


def test_delete_leaves_the_cluster_unless_told(cluster):
    assert gke("delete", *RUN) == 0
    assert cluster.calls("cluster delete") == []
    assert gke("delete", *RUN, "--cluster_too") == 0
    assert len(cluster.calls("xpk cluster delete --force --cluster=tpus")) == 1


def test_dry_run_prints_every_command_and_calls_none(cluster, capsys):
    assert main(["run", "--dry_run", *V5P, *TRAIN]) == 0
    said = capsys.readouterr().out
    for words in ("xpk cluster create", "| docker build", "docker push", "xpk workload create"):
        assert words in said
    assert cluster.calls() == []
