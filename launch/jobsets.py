"""A run on GKE: the JobSet that xpk makes of it, and what its pods say."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from archobj_jax.errors import MachineError, UserError
from launch.outcomes import Outcome, Verdict, judge
from launch.programs import Programs
from launch.quoting import for_manifest

RESTARTED = "75"
"""Status that restarts a JobSet beside those that xpk has do so itself: 42 and 127 to 255."""

_COMMAND = re.compile(r"^ *\((exec .*)\) & PID=\$!", re.MULTILINE)
"""How xpk has bash start a command in a container."""

_WORKLOAD = "xpk.google.com/workload"  # a label that xpk gives all pods of a run


@dataclass(frozen=True)
class Cluster:
    """A GKE cluster with TPUs, and a run on it.

    Attributes:
        programs: run xpk, gcloud and kubectl.
        name: the cluster's.
        project: of Google Cloud; empty for gcloud's own.
        zone: of Google Cloud.
        tpu_type: xpk's, for instance v5p-256.
        slices: number of slices of that type.
        run: the workload's name.
    """

    programs: Programs
    name: str
    project: str
    zone: str
    tpu_type: str
    slices: int
    run: str

    def xpk(self, *arguments: str) -> list[str]:
        """An xpk command on this cluster."""
        project = [f"--project={self.project}"] if self.project else []
        return ["xpk", *arguments, f"--cluster={self.name}", f"--zone={self.zone}", *project]

    def create(self, capacity: Sequence[str]) -> None:
        """Makes the cluster, or adds what it lacks: xpk goes on where it stopped.

        Raises:
            MachineError: xpk failed.
        """
        command = self.xpk(
            "cluster", "create", f"--tpu-type={self.tpu_type}", f"--num-slices={self.slices}"
        )
        self.programs.run([*command, *capacity], f"the cluster {self.name} could not be made")

    def submit(
        self,
        image: str,
        command: Sequence[str],
        *,
        restarts: int,
        grace: int,
        priority: str,
        storage: str,
    ) -> None:
        """Starts the command on all hosts of all slices.

        Args:
            image: that has the commit and what it needs.
            command: its arguments.
            restarts: of the whole run, at most.
            grace: seconds between SIGTERM and SIGKILL, to save in.
            priority: xpk's.
            storage: xpk's name of what pods mount; empty for nothing.

        Raises:
            MachineError: xpk failed.
        """
        line = _line(command)
        self.programs.run(
            self.xpk(
                "workload", "create", f"--workload={self.run}", f"--tpu-type={self.tpu_type}",
                f"--num-slices={self.slices}", f"--docker-image={image}",
                f"--priority={priority}", f"--max-restarts={restarts}",
                f"--restart-on-exit-codes={RESTARTED}",
                f"--termination-grace-period-seconds={grace}",
                *([f"--storage={storage}"] if storage else []), f"--command={line}",
            ),
            f"the run {self.run} could not be started",
        )  # fmt: skip

    def check_same(self, image: str, command: Sequence[str]) -> None:
        """Checks that what is there under the run's name is what is asked for.

        Raises:
            UserError: it is another command, or image.
            MachineError: kubectl failed.
        """
        for started_image, line in _started(self._get("jobset", self.run)):
            for there, asked in ((line, _line(command)), (started_image, image)):
                if there != asked:
                    raise UserError(
                        f"under the name {self.run}, something else is there: `{there}`, not "
                        f"`{asked}`. Give that to attach to it; or `delete` it first, or take "
                        "another --name."
                    )

    def connect(self) -> None:
        """Has kubectl know the cluster, by a context of its own.

        Raises:
            MachineError: gcloud failed.
        """
        project = [f"--project={self.project}"] if self.project else []
        self.programs.run(
            ["gcloud", "container", "clusters", "get-credentials", self.name,
             f"--location={self._region}", *project],
            f"the cluster {self.name} is out of reach",
        )  # fmt: skip

    def state(self) -> tuple[str, Outcome | None]:
        """Looks once; returns what the run does, and its outcome if it has ended.

        Raises:
            MachineError: kubectl failed.
        """
        found = self._get("jobset", self.run)
        if found is None:
            return "absent", None
        status = found.get("status", {})
        restarts = status.get("restarts", 0)
        ended = {
            condition["type"]
            for condition in status.get("conditions", [])
            if condition.get("status") == "True"
        }
        if "Completed" in ended:
            return "done", judge([0])
        pods = self._get("pods", f"--selector={_WORKLOAD}={self.run}") or {}
        statuses = _exit_statuses(pods)
        if "Failed" in ended:
            # Pods of earlier attempts are gone; the last ones may be too, when nodes were.
            outcome = judge(statuses or [None])
            if outcome.verdict is Verdict.DONE:
                outcome = judge([None])
            return f"failed after {restarts} restarts", outcome
        if "Suspended" in ended:
            return "queued", None
        running = sum(pod["status"].get("phase") == "Running" for pod in pods.get("items", []))
        return f"running on {running} pods, {restarts} restarts", None

    def follow(self, worker: int, lines: int) -> None:
        """Shows the end of a log, and what is added to it, until interrupted.

        Raises:
            MachineError: the connection ended.
        """
        selector = (
            f"--selector={_WORKLOAD}={self.run},"
            f"jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index={worker}"
        )
        self.programs.run(
            [*self._kubectl, "logs", "--follow", f"--tail={lines}", selector],
            "the connection ended; the run goes on",
        )

    def delete(self, *, cluster_too: bool) -> None:
        """Deletes the run, and the cluster if so wanted.

        Raises:
            MachineError: xpk failed.
        """
        self.programs.run(
            self.xpk("workload", "delete", f"--workload={self.run}", "--force"),
            f"the run {self.run} could not be deleted",
        )
        if cluster_too:
            self.programs.run(
                self.xpk("cluster", "delete", "--force"),
                f"the cluster {self.name} could not be deleted",
            )

    @property
    def _region(self) -> str:
        return self.zone.rpartition("-")[0]  # xpk makes regional clusters

    @property
    def _kubectl(self) -> list[str]:
        if not self.project:
            return ["kubectl"]  # the current context, which `connect` has set
        return ["kubectl", f"--context=gke_{self.project}_{self._region}_{self.name}"]

    def _get(self, kind: str, which: str) -> dict[str, Any] | None:
        answer = self.programs.ask([*self._kubectl, "get", kind, which, "--output=json"])
        if answer is None or (answer.status and re.search("NotFound|not found", answer.errors)):
            return None
        if answer.status:
            raise MachineError(f"`kubectl get {kind}` failed:\n{answer.reason()}")
        return dict(json.loads(answer.output))


def _line(command: Sequence[str]) -> str:
    # `exec`: the signal that a pod gets must reach archobj, which saves.
    return f"exec {for_manifest(command)}"


def _started(jobset: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Image and command of a JobSet's containers, but for xpk's own."""
    for job in jobset["spec"]["replicatedJobs"] if jobset else []:
        for container in job["template"]["spec"]["template"]["spec"]["containers"]:
            found = _COMMAND.search("\n".join(container.get("command", [])))
            if found:
                yield container["image"], found[1]


def _exit_statuses(pods: dict[str, Any]) -> list[int | None]:
    statuses: list[int | None] = []
    for pod in pods.get("items", []):
        for container in pod["status"].get("containerStatuses", []):
            ended = container.get("state", {}).get("terminated")
            if ended is not None:
                statuses.append(ended["exitCode"])
    return statuses
