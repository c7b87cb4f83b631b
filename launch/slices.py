"""TPU slices on Google Cloud: asked for, waited for, found lost, deleted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from archobj_jax.errors import MachineError, UserError
from launch.programs import Answer, Programs

RUNTIME_VERSIONS = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
"""The image that suits JAX, by TPU version (the accelerator type up to its `-`)."""

_COMING = {"CREATING", "STARTING", "RESTARTING", "REIMAGING", "REPAIRING"}
_LOST = {"PREEMPTED", "TERMINATED", "DELETING"}
_QUEUED = {"CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING"}
_GOING = {"SUSPENDING", "DELETING"}
_ENDED = {"FAILED", "SUSPENDED"}
_ASKED_AT_MOST = 3


class Condition(Enum):
    """What to do about a slice next."""

    ABSENT = "ask for it"
    WAIT = "wait"
    READY = "use it"
    LOST = "delete it and ask anew"


@dataclass(frozen=True)
class Pod:
    """One or several slices under a name.

    Attributes:
        programs: run gcloud.
        name: of the queued resource and, with one slice, of the TPU VM.
        project: of Google Cloud; empty for gcloud's own.
        zone: of Google Cloud.
        accelerator_type: for instance v4-1024; empty if it exists and any will do.
        runtime_version: of the TPU VM; empty for `RUNTIME_VERSIONS`.
        slices: number of slices, connected by the data-center network.
        capacity: "spot", "reserved" or "on-demand".
        queued: whether by a queued resource; else one slice is created at once or not at all.
        more: further flags of gcloud's create command.
    """

    programs: Programs
    name: str
    project: str
    zone: str
    accelerator_type: str = ""
    runtime_version: str = ""
    slices: int = 1
    capacity: str = "on-demand"
    queued: bool = True
    more: Sequence[str] = ()

    @property
    def nodes(self) -> list[str]:
        """The TPU VMs' names, one a slice."""
        if self.slices == 1:
            return [self.name]
        return [f"{self.name}-{index}" for index in range(self.slices)]

    def tpus(self, *arguments: str) -> list[str]:
        """A `gcloud compute tpus …` command in this project and zone."""
        project = [f"--project={self.project}"] if self.project else []
        return ["gcloud", "compute", "tpus", *arguments, f"--zone={self.zone}", *project]

    def condition(self) -> tuple[Condition, str]:
        """Looks once; returns what to do next, and why in a few words.

        Raises:
            UserError: the name is taken by something else.
            MachineError: gcloud failed, or a TPU VM is in a state that only its owner can judge.
        """
        if not self.queued:
            return self._nodes_condition()
        found = self._described("queued-resources", self.name)
        if found is None:
            if self._described("tpu-vm", self.name) is not None:
                raise UserError(
                    f"the name {self.name} belongs to a TPU VM that no queued resource made: use "
                    "it with --no_queue, delete it with `delete --no_queue`, or take another name."
                )
            return Condition.ABSENT, "not asked for yet"
        self._check_type(found)
        state = found.get("state", {}).get("state", "unknown")
        if state == "ACTIVE":
            return self._nodes_condition()
        if state in _QUEUED | _GOING:
            return Condition.WAIT, state
        if state in _ENDED:
            error = found["state"].get(f"{state.lower()}Data", {}).get("error", {})
            return Condition.LOST, f"{state} {error.get('message', '')}".strip()
        raise MachineError(f"{self.name} is in the state {state}, which launch does not know.")

    def ensure(self, *, minutes: float, poll: float) -> bool:
        """Has the slices ready, whatever was there before; returns whether they are new.

        Args:
            minutes: to wait at most, the queue included.
            poll: seconds between looks.

        Raises:
            MachineError: they were not to be had in time, or failed three times.
        """
        programs = self.programs
        if programs.dry_run:
            self.condition()
            self.create()
            programs.say(f"(then asks every {poll:g} s, for {minutes:g} minutes at most)")
            return True
        end = programs.clock() + 60 * minutes
        asked, said, before = 0, "", Condition.READY
        while True:
            condition, why = self.condition()
            if f"{condition} {why}" != said:
                programs.say(f"{self.name}: {why}: {condition.value}")
                said = f"{condition} {why}"
            if condition is Condition.READY:
                return asked > 0
            # A TPU VM can be missing for a moment after its queued resource became active.
            if condition is Condition.LOST and before is Condition.LOST:
                self.delete(poll=poll)
            elif condition is Condition.ABSENT:
                if asked == _ASKED_AT_MOST:
                    raise MachineError(f"{self.name} failed {asked} times; see above why.")
                asked += 1
                self.create()
            if programs.clock() >= end:
                raise MachineError(
                    f"{self.name} is not ready after {minutes:g} minutes ({why}). It stays asked "
                    "for: the same command goes on waiting, `delete` gives it up."
                )
            before = condition
            programs.sleep(poll)

    def create(self) -> None:
        """Asks for the slices.

        Raises:
            UserError: the accelerator type is missing, or needs --runtime_version.
            MachineError: gcloud refused.
        """
        if not self.accelerator_type:
            raise UserError(f"{self.name} does not exist: give --accelerator_type, e.g. v4-128.")
        version = self.runtime_version or RUNTIME_VERSIONS.get(
            self.accelerator_type.partition("-")[0]
        )
        if version is None:
            raise UserError(
                f"--accelerator_type={self.accelerator_type}: which image suits it is not known "
                f"here ({', '.join(RUNTIME_VERSIONS)} are); give --runtime_version. "
                "`gcloud compute tpus tpu-vm versions list` lists them."
            )
        shared = [f"--accelerator-type={self.accelerator_type}"]
        if self.capacity != "on-demand":
            shared += [f"--{self.capacity}"]
        shared += self.more
        if not self.queued:
            command = self.tpus("tpu-vm", "create", self.name, f"--version={version}", *shared)
        elif self.slices == 1:
            command = self.tpus(
                "queued-resources", "create", self.name, f"--node-id={self.name}",
                f"--runtime-version={version}", *shared,
            )  # fmt: skip
        else:
            command = self.tpus(
                "queued-resources", "create", self.name, f"--node-count={self.slices}",
                f"--node-prefix={self.name}", f"--runtime-version={version}", *shared,
            )  # fmt: skip
        self.programs.run(command, f"{self.name} could not be asked for")

    def delete(self, *, poll: float, minutes: float = 30) -> None:
        """Deletes the slices and the request for them; nothing if there are none.

        Raises:
            MachineError: gcloud refused, or they are still there after `minutes`.
        """
        kind = "queued-resources" if self.queued else "tpu-vm"
        force = ["--force"] if self.queued else []
        command = self.tpus(kind, "delete", self.name, *force, "--quiet")
        if not self.programs.dry_run and self._described(kind, self.name) is None:
            self.programs.say(f"{self.name}: there is nothing to delete")
            return
        self.programs.run(command, f"{self.name} could not be deleted")
        if self.programs.dry_run:
            return
        end = self.programs.clock() + 60 * minutes
        while self._described(kind, self.name) is not None:
            if self.programs.clock() >= end:
                raise MachineError(f"{self.name} is still there {minutes:g} minutes after delete.")
            self.programs.sleep(poll)
        self.programs.say(f"{self.name}: deleted")

    def workers(self) -> int:
        """The number of hosts, over all slices; 0 with --dry_run."""
        found = [self._described("tpu-vm", node) for node in self.nodes]
        return sum(len(node.get("networkEndpoints", [])) for node in found if node)

    def _nodes_condition(self) -> tuple[Condition, str]:
        states = {}
        for node in self.nodes:
            found = self._described("tpu-vm", node)
            states[node] = "missing" if found is None else found.get("state", "unknown")
            if found is not None and not self.queued:
                self._check_type({"tpu": {"nodeSpec": [{"node": found}]}})
        if not self.queued and set(states.values()) == {"missing"}:
            return Condition.ABSENT, "not there yet"
        for node, state in states.items():
            if state == "missing" or state in _LOST:
                return Condition.LOST, f"{node} is {state}"
        for node, state in states.items():
            if state in _COMING:
                return Condition.WAIT, f"{node} is {state}"
            if state != "READY":
                raise MachineError(
                    f"the TPU VM {node} is in the state {state}: start it again, or `delete`."
                )
        return Condition.READY, "READY"

    def _check_type(self, resource: dict[str, Any]) -> None:
        for spec in resource.get("tpu", {}).get("nodeSpec", []):
            found = spec.get("node", {}).get("acceleratorType", "")
            if found and self.accelerator_type and found != self.accelerator_type:
                raise UserError(
                    f"{self.name} exists and is {found}, not {self.accelerator_type}: `delete` it, "
                    "or take another --name."
                )

    def _described(self, kind: str, name: str) -> dict[str, Any] | None:
        """What gcloud says of it; None if there is no such thing, or with --dry_run."""
        command = self.tpus(kind, "describe", name, "--format=json")
        answer = None
        for pause in (5, 20, 60, None):  # a look changes nothing: passing faults are waited out
            answer = self.programs.ask(command)
            if answer is None or _not_found(answer):
                return None
            if answer.status == 0:
                return dict(json.loads(answer.output))
            if pause is not None:
                told = answer.reason().splitlines()[0]
                self.programs.say(f"gcloud failed ({told}); asked again in {pause} s")
                self.programs.sleep(pause)
        assert answer is not None
        raise MachineError(f"`{' '.join(command[:5])} {name}` failed:\n{answer.reason()}")


def _not_found(answer: Answer) -> bool:
    return answer.status != 0 and "NOT_FOUND" in answer.errors
