"""What is done on the hosts of a pod, over ssh, by the scripts of launch/worker there."""

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from archobj_jax.errors import MachineError
from launch.programs import Answer
from launch.quoting import for_ssh
from launch.slices import Pod

CHECKOUT = "archobj_jax"
"""The folder of the checkout, in the home of the user on each host."""

_CONNECTION = ("ConnectTimeout=30", "ServerAliveInterval=15", "ServerAliveCountMax=4")
"""Options of ssh: a host that vanished ends the connection within a minute."""

_SET_UP_SECONDS = 2 * 60 * 60
"""What a set-up may take: downloads, and a script of the user's."""

_STATUS = re.compile(
    r"^archobj_status (\S+) (absent|running|dead|exited (\d+)) \| (\S*) \| (.*)$", re.M
)


@dataclass(frozen=True)
class Report:
    """What one host says of a run.

    Attributes:
        host: its name.
        state: absent, running, dead (it ended without a status, as in a reboot) or exited.
        status: the exit status, once exited.
        last_line: of its log.
        commit: that it was started at; empty if absent.
        command: its arguments.
    """

    host: str
    state: str
    status: int | None
    last_line: str
    commit: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workers:
    """The hosts of a pod.

    Attributes:
        pod: whose hosts they are.
        ssh_flags: further flags of `gcloud compute tpus tpu-vm ssh`.
    """

    pod: Pod
    ssh_flags: Sequence[str] = ()

    def set_up(self, repository: str, commit: str, script: str = "") -> None:
        """Checks out the commit and installs what it needs, on all hosts; quick if that is done.

        Args:
            repository: what they fetch from.
            commit: its full name.
            script: what bash does there afterwards, in the checkout; for mounts, say.

        Raises:
            MachineError: it failed on a host.
        """
        steps = [
            ["git", "init", "--quiet", CHECKOUT],
            ["cd", CHECKOUT],
            ["git", "fetch", "--quiet", "--depth=1", "--", repository, commit],
            ["git", "checkout", "--quiet", "--force", "--detach", commit],
            ["bash", "launch/worker/setup.sh", *([script] if script else [])],
        ]
        self._everywhere(
            " && ".join(map(for_ssh, steps)), "archobj_ready", "set up", _SET_UP_SECONDS
        )

    def start(self, run: str, command: Sequence[str]) -> None:
        """Starts the command on all hosts where the run is not running.

        Raises:
            MachineError: it could not be started on a host.
        """
        script = for_ssh(["bash", f"{CHECKOUT}/launch/worker/start.sh", run, *command])
        self._everywhere(script, "archobj_started", "started")

    def stop(self, run: str, grace: int) -> None:
        """Has all hosts save and stop; kills what has not after `grace` seconds.

        Raises:
            MachineError: a host could not be told.
        """
        script = for_ssh(["bash", f"{CHECKOUT}/launch/worker/stop.sh", run, str(grace)])
        self._everywhere(script, "archobj_stopped", "stopped", grace)

    def reports(self, run: str, worker: str = "all") -> list[Report] | None:
        """What hosts say of a run; those out of reach are missing.

        Args:
            run: its name.
            worker: gcloud's: an index in each slice, or all.

        Returns:
            None with --dry_run.
        """
        script = for_ssh(["bash", f"{CHECKOUT}/launch/worker/status.sh", run])
        answers = self._ask(script, worker)
        if None in answers:
            return None
        said = "\n".join(answer.output for answer in answers if answer)
        return [
            Report(host, state.split()[0], int(status) if status else None, last, *_made_of(what))
            for host, state, status, what, last in _STATUS.findall(said)
        ]

    def follow(self, run: str, node: str, worker: str, lines: int) -> None:
        """Shows the end of a log, and what is added to it, until interrupted.

        Raises:
            MachineError: the connection ended.
        """
        script = for_ssh(["tail", "-n", str(lines), "-F", f"archobj_runs/{run}/log"])
        self.pod.programs.run(
            self._ssh(node, script, worker), f"the connection to {node} ended; the run goes on"
        )

    def collect(self, run: str, folder: Path) -> None:
        """Copies the logs of all hosts to `folder`/<TPU VM>/<index of the host>.log.

        Raises:
            MachineError: a host is out of reach.
        """
        script = for_ssh(["cat", f"archobj_runs/{run}/log"])
        for node in self.pod.nodes:
            if not self.pod.programs.dry_run:
                (folder / node).mkdir(parents=True, exist_ok=True)
            command = [*self._ssh(node, script, "all"), f"--output-directory={folder / node}"]
            self.pod.programs.run(command, f"not all logs of {node} could be copied")

    def _ssh(self, node: str, script: str, worker: str) -> list[str]:
        return [
            *self.pod.tpus("tpu-vm", "ssh", node),
            f"--worker={worker}",
            *(f"--ssh-flag=-o{option}" for option in _CONNECTION),
            *self.ssh_flags,
            f"--command={script}",
        ]

    def _ask(self, script: str, worker: str = "all", more: float = 0) -> list[Answer | None]:
        return self.pod.programs.ask_all(
            [self._ssh(node, script, worker) for node in self.pod.nodes], more
        )

    def _everywhere(self, script: str, sign: str, done: str, more: float = 0) -> None:
        """Runs on all hosts at once; each prints a line beginning with `sign` if it succeeds."""
        answers = self._ask(script, more=more)
        if None in answers:
            return
        told = [answer for answer in answers if answer is not None]
        lines = [
            line
            for answer in told
            for line in answer.output.splitlines()
            if line.startswith(f"{sign} ")
        ]
        expected = self.pod.workers()
        failed = [answer for answer in told if answer.status]
        if failed or len(lines) != expected:
            reason = failed[0].reason() if failed else "some did not answer"
            raise MachineError(f"only {len(lines)} of {expected} workers were {done}:\n{reason}")
        self.pod.programs.say(f"{self.pod.name}: {expected} workers {done}")


def _made_of(what: str) -> tuple[str, tuple[str, ...]]:
    """Commit and arguments of a run, as start.sh keeps them and status.sh tells them."""
    commit, *command = os.fsdecode(base64.b64decode(what)).split("\0")
    return commit, tuple(command[:-1])
