"""The subcommands of `launch/tpu_vm`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archobj_jax.errors import UserError
from archobj_jax.partitioning.slice_sizes import check_type
from launch import commit, flags, run_command
from launch.flags import Flag
from launch.outcomes import judge
from launch.programs import Programs, reported
from launch.slices import Pod
from launch.watching import Patience, check_same, until_done
from launch.workers import Report, Workers

PROGRAM = "launch/tpu_vm"

ABOUT = """\
Trains on a Cloud TPU slice, or several, through gcloud. docs/pods.md leads through it.

  launch/tpu_vm run --name=cd-flm --project=my-project --zone=us-central2-b \\
    --accelerator_type=v4-128 --spot -- archobj train \\
    --gin_file=t5x_configs/experiments/xxl/cd_flm.gin --gin.MODEL_DIR=gs://bucket/cd-flm"""

SUBCOMMANDS = {
    "create": "ask for the slice and wait until it is there; one that failed is asked for anew",
    "setup": "check out the commit on all workers and install what it needs",
    "train": "start the command on all workers; it outlives the connection",
    "run": "all three, then watch: start again after a preemption, until done",
    "status": "what the slice and each worker do",
    "logs": "follow the log of a worker, or copy all logs with --to",
    "stop": "have all workers save and stop; the slice stays",
    "delete": "delete the slice, or the request for it",
}

FLAGS = {
    "name": Flag("of the slice and the run"),
    "project": Flag("Google Cloud's; gcloud's own if not given"),
    "zone": Flag("Google Cloud's, e.g. us-central2-b"),
    "accelerator_type": Flag("e.g. v4-1024, v5p-256, v6e-256"),
    "runtime_version": Flag("the TPU VM's image; what suits JAX if not given"),
    "slices": Flag("number of slices (1)", int, 1),
    "spot": Flag("cheaper, and may be taken away", bool, False),
    "reserved": Flag("from the project's reservation", bool, False),
    "no_queue": Flag("create at once or fail, without a queued resource", bool, False),
    "network": Flag("of the TPU VMs"),
    "subnetwork": Flag("of the TPU VMs"),
    "service_account": Flag("that the TPU VMs act as; must read and write MODEL_DIR's bucket"),
    "internal_ips": Flag("no external addresses; ssh from within the network", bool, False),
    "repository": Flag("what workers fetch the commit from (this clone's origin, by https)"),
    "commit": Flag("what to run (HEAD, which must be pushed, without local changes)"),
    "setup_script": Flag("a file for bash to run on each worker after its set-up, e.g. to mount"),
    "env": Flag("a variable for the command; repeatable", dict, {}),
    "poll": Flag("seconds between looks (60)", float, Patience.poll),
    "queue_minutes": Flag("to wait for the slice at most (1440)", float, Patience.queue),
    "max_restarts": Flag("of run (100)", int, Patience.restarts),
    "max_crashes": Flag("in a row, of killed processes (3)", int, Patience.crashes),
    "delete_when_done": Flag("run deletes the slice once the training is done", bool, False),
    "worker": Flag("whose log to follow (0)", str, "0"),
    "slice": Flag("in which slice that worker is (0)", int, 0),
    "lines": Flag("of the log to begin with (50)", int, 50),
    "to": Flag("a folder to copy the logs of all workers to"),
    "grace": Flag("seconds to save in when stopped (600)", int, 600),
}


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
    flags.required(values, "name", "zone")
    pod = _pod(values, programs or Programs(values["dry_run"]))
    ssh = ["--internal-ip"] if values["internal_ips"] else []
    workers = Workers(pod, ssh)
    command = run_command.for_pod(command, values["env"])
    if subcommand == "run":
        return _run(pod, workers, values, command)
    if subcommand == "create":
        pod.ensure(minutes=values["queue_minutes"], poll=values["poll"])
    elif subcommand == "setup":
        if _running(workers):
            raise UserError(f"{pod.name} is training: `stop` it before it gets another commit.")
        workers.set_up(*_source(values))
    elif subcommand == "train":
        _train(workers, command)
    elif subcommand == "status":
        _status(workers)
    elif subcommand == "logs" and values["to"]:
        workers.collect(pod.name, Path(values["to"]))
    elif subcommand == "logs":
        if not 0 <= values["slice"] < pod.slices:
            raise UserError(f"--slice={values['slice']}: there are {pod.slices}, from 0 (--slices)")
        workers.follow(pod.name, pod.nodes[values["slice"]], values["worker"], values["lines"])
    elif subcommand == "stop":
        workers.stop(pod.name, values["grace"])
    elif subcommand == "delete":
        pod.delete(poll=values["poll"])
    return 0


def _pod(values: dict[str, Any], programs: Programs) -> Pod:
    if values["spot"] and values["reserved"]:
        raise UserError("--spot and --reserved exclude each other.")
    if values["slices"] < 1 or (values["slices"] > 1 and values["no_queue"]):
        raise UserError(
            f"--slices={values['slices']}: at least 1, and several only by a queued resource, "
            "without --no_queue."
        )
    check_type("accelerator_type", values["accelerator_type"] or "")
    named = {"network": "network", "subnetwork": "subnetwork", "service_account": "service-account"}
    more = [f"--{flag}={values[name]}" for name, flag in named.items() if values[name]]
    if values["internal_ips"]:
        more += ["--internal-ips"]
    capacity = [name for name in ("spot", "reserved") if values[name]]
    return Pod(
        programs,
        flags.checked_name("name", values["name"]),
        values["project"] or "",
        values["zone"],
        values["accelerator_type"] or "",
        values["runtime_version"] or "",
        values["slices"],
        capacity[0] if capacity else "on-demand",
        not values["no_queue"],
        more,
    )


def _source(values: dict[str, Any]) -> tuple[str, str, str]:
    """Where workers fetch from, the commit, and what they do after their set-up."""
    repository = values["repository"] or commit.origin()
    pinned = commit.pinned(values["commit"], pushed=not values["repository"])
    script = ""
    if values["setup_script"]:
        try:
            script = Path(values["setup_script"]).read_text()
        except OSError as error:
            raise UserError(f"--setup_script={values['setup_script']}: {error.strerror}.") from None
    return repository, pinned, script


def _run(pod: Pod, workers: Workers, values: dict[str, Any], command: Sequence[str]) -> int:
    source = _source(values)  # mistakes are told before the slice is asked for
    run_command.check_gin_files(command, commit.files_at(source[1]))
    patience = Patience(
        poll=values["poll"],
        queue=values["queue_minutes"],
        restarts=values["max_restarts"],
        crashes=values["max_crashes"],
    )
    status = until_done(pod, workers, command, source[1], lambda: workers.set_up(*source), patience)
    if values["delete_when_done"] and status == 0:
        pod.delete(poll=values["poll"])
    elif not pod.programs.dry_run:
        pod.programs.say(
            f"{pod.name} is still there and costs: `{PROGRAM} delete --name={pod.name} "
            f"--zone={pod.zone}` ends that; `logs --to=FOLDER` first copies the logs."
        )
    return status


def _running(workers: Workers) -> list[Report]:
    reports = workers.reports(workers.pod.name)
    return [report for report in reports or [] if report.state == "running"]


def _train(workers: Workers, command: Sequence[str]) -> None:
    running = _running(workers)
    check_same(workers.pod.name, running, command)
    if running:
        workers.pod.programs.say(f"{workers.pod.name}: is running on {len(running)} workers")
        return
    workers.start(workers.pod.name, command)


def _status(workers: Workers) -> None:
    pod = workers.pod
    condition, why = pod.condition()
    print(f"{pod.name}: {why}", flush=True)
    if pod.programs.dry_run or condition.name == "READY":
        reports = workers.reports(pod.name)
        if reports is None:
            return
        for report in sorted(reports, key=lambda report: report.host):
            status = "" if report.status is None else f" {report.status}"
            print(f"  {report.host}: {report.state}{status}: {report.last_line}")
        states = {report.state for report in reports}
        missing = pod.workers() - len(reports)
        if missing:
            print(f"{missing} workers did not answer")
        if reports and states <= {"exited", "dead"}:
            outcome = judge([report.status for report in reports])
            print(f"{outcome.verdict.value}: {outcome.why} (exit status {outcome.status})")
        elif states == {"absent"}:
            print("not started")
        elif "running" in states:
            print("running" if states == {"running"} else "running, though not on all workers")
