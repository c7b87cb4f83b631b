"""The subcommands of `launch/gke`."""

from collections.abc import Sequence
from typing import Any

from archobj_jax.errors import MachineError, UserError
from archobj_jax.partitioning.slice_sizes import check_type
from launch import commit, flags, run_command
from launch.flags import Flag
from launch.jobsets import Cluster
from launch.outcomes import Outcome
from launch.programs import Programs, reported

PROGRAM = "launch/gke"

ABOUT = """\
Trains on TPUs of a GKE cluster through xpk (pip install xpk). docs/pods.md leads through it.

  launch/gke run --name=cd-flm --cluster=tpus --project=my-project --zone=us-east5-a \\
    --tpu_type=v5p-256 --spot --image=us-docker.pkg.dev/my-project/images/archobj -- \\
    archobj train --gin_file=t5x_configs/experiments/xxl/cd_flm.gin \\
    --gin.MODEL_DIR=gs://bucket/cd-flm"""

SUBCOMMANDS = {
    "create": "make the cluster and its TPU nodes, or what it lacks of them",
    "setup": "build the image of the commit and push it, unless it is there",
    "train": "start the command on all hosts; Kubernetes starts it again after a preemption",
    "run": "all three, then watch until done",
    "status": "what the run does, and how it ended",
    "logs": "follow the log of a worker of the first slice",
    "delete": "delete the run; the cluster, which costs, with --cluster_too",
}

FLAGS = {
    "name": Flag("of the run, xpk's workload"),
    "cluster": Flag("of GKE"),
    "project": Flag("Google Cloud's; gcloud's own if not given"),
    "zone": Flag("Google Cloud's, e.g. us-east5-a"),
    "tpu_type": Flag("e.g. v5p-256, v6e-256"),
    "slices": Flag("number of slices (1)", int, 1),
    "spot": Flag("cheaper, and may be taken away", bool, False),
    "reservation": Flag("the name of a reservation to use"),
    "image": Flag("where images are pushed, e.g. us-docker.pkg.dev/PROJECT/images/archobj"),
    "commit": Flag("what to run (HEAD, without local changes)"),
    "env": Flag("a variable for the command; repeatable", dict, {}),
    "storage": Flag("what pods mount, by the name that `xpk storage attach` gave it"),
    "priority": Flag("xpk's (medium)", str, "medium",
                     ("very-low", "low", "medium", "high", "very-high")),
    "max_restarts": Flag("by Kubernetes (100)", int, 100),
    "grace": Flag("seconds to save in when a pod must end (300)", int, 300),
    "poll": Flag("seconds between looks (60)", float, 60.0),
    "cluster_too": Flag("delete the cluster as well", bool, False),
    "worker": Flag("whose log to follow (0)", int, 0),
    "lines": Flag("of the log to begin with (50)", int, 50),
}  # fmt: skip

_SILENCE = 60 * 60
"""Seconds that kubectl may fail before watching ends."""


def main(arguments: Sequence[str], programs: Programs | None = None) -> int:
    """Runs one subcommand; returns its exit status, of `run` the training's."""
    return reported(lambda: _main(arguments, programs), PROGRAM)


def _main(arguments: Sequence[str], programs: Programs | None) -> int:
    subcommand, values, command = flags.parse(
        arguments,
        program=PROGRAM,
        about=ABOUT,
        flags=FLAGS,
        subcommands=SUBCOMMANDS,
        needs_command=("train", "run"),
    )
    cluster = _cluster(subcommand, values, programs or Programs(values["dry_run"]))
    command = run_command.for_pod(command, values["env"])
    if subcommand in ("setup", "train", "run"):
        flags.required(values, "image")
        pinned = commit.pinned(values["commit"], pushed=False)
        image = f"{values['image']}:{pinned}"
        run_command.check_gin_files(command, commit.files_at(pinned))
    if subcommand in ("create", "run"):
        cluster.create(_capacity(values))
    if subcommand in ("setup", "run"):
        _set_up(cluster.programs, image, pinned)
    if subcommand in ("train", "run"):
        _train(cluster, image, command, values)
    if subcommand == "run":
        return _watch(cluster, values["poll"])
    if subcommand in ("status", "logs"):
        cluster.connect()
    if subcommand == "status":
        state, outcome = cluster.state()
        print(f"{cluster.run}: {state}{_told(outcome)}")
    elif subcommand == "logs":
        cluster.follow(values["worker"], values["lines"])
    elif subcommand == "delete":
        cluster.delete(cluster_too=values["cluster_too"])
    return 0


def _cluster(subcommand: str, values: dict[str, Any], programs: Programs) -> Cluster:
    flags.required(values, "name", "cluster", "zone")
    if subcommand in ("create", "train", "run"):
        flags.required(values, "tpu_type")
    if values["slices"] < 1:
        raise UserError(f"--slices={values['slices']}: at least 1.")
    check_type("tpu_type", values["tpu_type"] or "")
    return Cluster(
        programs,
        flags.checked_name("cluster", values["cluster"]),
        values["project"] or "",
        values["zone"],
        values["tpu_type"] or "",
        values["slices"],
        flags.checked_name("name", values["name"]),
    )


def _capacity(values: dict[str, Any]) -> list[str]:
    if values["spot"] and values["reservation"]:
        raise UserError("--spot and --reservation exclude each other.")
    if values["reservation"]:
        return [f"--reservation={values['reservation']}"]
    return ["--spot" if values["spot"] else "--on-demand"]


def _set_up(programs: Programs, image: str, pinned: str) -> None:
    """Builds from the commit's own files: local changes cannot get in."""
    answer = programs.ask(["docker", "manifest", "inspect", image])
    if answer is not None and answer.status == 0:
        programs.say(f"{image} is there")
        return
    programs.pipe(
        ["git", "-C", str(commit.ROOT), "archive", "--format=tar", pinned],
        ["docker", "build", "--platform=linux/amd64", f"--tag={image}",
         "--file=launch/Dockerfile", "-"],
        "the image could not be built",
    )  # fmt: skip
    programs.run(["docker", "push", image], "the image could not be pushed")


def _train(cluster: Cluster, image: str, command: Sequence[str], values: dict[str, Any]) -> None:
    cluster.connect()
    state, outcome = cluster.state()
    if state != "absent" and outcome is None:
        cluster.check_same(image, command)
        cluster.programs.say(f"{cluster.run}: is there already, {state}")
        return
    if outcome is not None:
        cluster.programs.say(f"{cluster.run}: {state}{_told(outcome)}: started anew")
        cluster.delete(cluster_too=False)
    cluster.submit(
        image,
        command,
        restarts=values["max_restarts"],
        grace=values["grace"],
        priority=values["priority"],
        storage=values["storage"] or "",
    )


def _watch(cluster: Cluster, poll: float) -> int:
    """Follows a run to its end; Kubernetes does the restarts. Returns its exit status."""
    programs = cluster.programs
    if programs.dry_run:
        cluster.state()
        programs.say(f"(then asks every {poll:g} s until the run ends)")
        return 0
    said, heard = "", programs.clock()
    while True:
        try:
            state, outcome = cluster.state()
            heard = programs.clock()
        except MachineError as error:  # this machine may be offline; the run goes on without it
            state, outcome = str(error), None
            if programs.clock() - heard > _SILENCE:
                raise
        if state == "absent":
            raise MachineError(
                f"{cluster.run} is gone: deleted, or it ended more than 12 hours ago."
            )
        if state != said:
            programs.say(f"{cluster.run}: {state}{_told(outcome)}")
            said = state
        if outcome is not None:
            return outcome.status
        programs.sleep(poll)


def _told(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return f": {outcome.verdict.value}: {outcome.why} (exit status {outcome.status})"
