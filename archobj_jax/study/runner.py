"""`archobj study run`: stage after stage, going on where it was, past branches that fail."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from archobj_jax.errors import INTERRUPTED, MACHINE_ERROR, PREEMPTED, UserError
from archobj_jax.study import execution
from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.progress import Progress
from archobj_jax.study.store import Store, command_line

Execute = Callable[..., int]
"""As `execution.execute`."""

_LINES = 6
"""Last lines of a log that are told of a failure."""


@dataclasses.dataclass(frozen=True)
class Runner:
    """Runs what a study lacks, one stage at a time.

    Attributes:
      graph: the stages.
      store: where they lie.
      environment: of their processes.
      execute: runs one command.
      attempts: how often a stage is tried that fails for a passing reason: a disk or a file (status
        74), a SIGTERM that was not ours (75), a signal such as that of the kernel out of memory.
        Those that others made since we began count.
      pause: seconds before it is tried again, doubled each time.
      beside_others: whether others like us run stages of the store at the same time. We then take
        what none of them is at, and wait only while that is all that is left; else we wait for a
        stage that another process is at, since a `study run` that was killed may have left it
        behind, on the devices that are ours.
      look: seconds between looks whether others have ended.
      say: prints a line.
      began: when, in seconds since 1970; what failed in another's hands since is not tried again.
    """

    graph: Graph
    store: Store
    environment: Mapping[str, str]
    execute: Execute = execution.execute
    attempts: int = 3
    pause: float = 5.0
    beside_others: bool = False
    look: float = 2.0
    say: Callable[[str], None] = print
    began: float = dataclasses.field(default_factory=time.time)

    def run(self) -> None:
        """Runs all stages that are not done.

        Raises:
          UserError: stages failed; says which, why, and what waits for them.
          execution.StoppedError: told to stop.
        """
        failed: dict[str, str] = {}
        blocked: list[Stage] = []
        left = list(enumerate(self.graph, start=1))
        waited = False
        while left:
            busy = self._run_free(left, failed, blocked)
            if len(busy) == len(left):
                if not waited:
                    self.say(f"Others are at what is left ({len(left)}), or at what it needs.")
                waited = True
                time.sleep(self.look)
            left = busy
        if failed:
            raise UserError(self._told(failed, blocked))

    def _run_free(
        self, left: Sequence[tuple[int, Stage]], failed: dict[str, str], blocked: list[Stage]
    ) -> list[tuple[int, Stage]]:
        """Runs what is ready; returns the stages that others are at, and what waits for these.

        A parent that is no longer done, since its folder was removed, is among them again.
        """
        busy: list[tuple[int, Stage]] = []
        pending = {stage.fingerprint for _, stage in left}
        for number, stage in left:
            parent = self.graph.parent(stage)
            if self.store.is_done(stage):
                continue
            if stage.parent in failed or parent in blocked:
                blocked.append(stage)
            elif parent is not None and not self.store.is_done(parent):
                if parent.fingerprint not in pending:
                    pending.add(parent.fingerprint)
                    busy.append((list(self.graph).index(parent) + 1, parent))
                busy.append((number, stage))
            else:
                try:
                    why = self._run(stage, f"[{number}/{len(self.graph)}]")
                except execution.BusyError:
                    busy.append((number, stage))
                    continue
                if why:
                    failed[stage.fingerprint] = why
        return busy

    def _run(self, stage: Stage, number: str) -> str | None:
        """Runs a stage to its end; returns why it failed, or None.

        Raises:
          execution.BusyError: another is at it, and we are beside others.
        """
        folder = Path(self.store.folder(stage))
        progress = Progress(stage, self.store, number, self.say)
        waiting = None if self.beside_others else progress.waiting
        with execution.only_one(folder, waiting) as lock, progress:
            if self.store.is_done(stage):
                progress.end("done by another process")
                return None
            log = folder / "log.txt"
            if (last := self._given_up(stage)) is not None:
                progress.end(f"FAILED in another process, {_how(last['status'])}")
                return _why(last["status"], log, last.get("log_from", 0))
            return self._try(stage, log, lock, progress)

    def _try(self, stage: Stage, log: Path, lock: int, progress: Progress) -> str | None:
        """Tries a stage, again and again if need be; returns why it failed, or None."""
        for attempt in range(1, self.attempts + 1):
            made = self._attempt(stage, log, lock, progress)
            if made["status"] == 0:
                self.store.finish(stage)
                progress.end("done")
                return None
            why = _why(made["status"], log, made["log_from"])
            if attempt == self.attempts or self._given_up(stage) is not None:
                break
            pause = self.pause * 2 ** (attempt - 1)
            progress.say(f"{why.splitlines()[0]}; trying again in {pause:.0f} s")
            time.sleep(pause)
        progress.end(f"FAILED, {why.splitlines()[0]}")
        return why

    def _given_up(self, stage: Stage) -> dict[str, Any] | None:
        """The last attempt at a stage that is not to be tried again, or None.

        What ended before we began does not count, nor what was told to stop: both may go on.
        """
        failed = [
            made
            for made in self.store.attempts(stage)
            if made["started"] + made["seconds"] >= self.began
            and made["status"] != 0
            and not made.get("stopped")  # of older records it is not known
        ]
        if not failed:
            return None
        passing = [_passing(made["status"]) for made in failed]
        return failed[-1] if not passing[-1] or sum(passing) >= self.attempts else None

    def _attempt(self, stage: Stage, log: Path, lock: int, progress: Progress) -> dict[str, Any]:
        """Tries a stage once; returns the record of it.

        There is one only if its process has ended: an accident of ours is no failure of the stage.
        """
        start = time.time()
        self.store.begin(stage, self.graph, started=start)
        made = {"started": start, "log_from": log.stat().st_size if log.exists() else 0}

        def ended(status: int, *, stopped: bool) -> dict[str, Any]:
            made.update(status=status, seconds=time.time() - start, stopped=stopped)
            self.store.add_attempt(stage, made)
            return made

        try:
            status = self.execute(
                self.store.arguments(stage, self.graph),
                log=log,
                lock=lock,
                environment=self.environment,
                progress=progress.update,
            )
        except execution.StoppedError as stopped:
            ended(0 if stopped.ended == 0 else stopped.status, stopped=True)
            with contextlib.suppress(BrokenPipeError):  # nobody reads it; we stop all the same
                progress.end(self._stopped(stage, stopped.ended))
            raise
        return ended(status, stopped=False)

    def _stopped(self, stage: Stage, ended: int) -> str:
        """How a stage ended that was told to stop, and what it goes on from."""
        how = f"stopped {_BY.get(ended, f'with {_how(ended)}')}"
        if stage.evaluation is not None or ended == 0:
            return how
        newest = self.store.newest_step(stage)
        steps = f"{newest - stage.start_step:,} of {stage.total_steps - stage.start_step:,}"
        return f"{how}, checkpoint at step {steps}" if newest >= 0 else f"{how}, no checkpoint yet"

    def _told(self, failed: Mapping[str, str], blocked: list[Stage]) -> str:
        lines = [f"{len(failed)} of {len(self.graph)} stages failed:"]
        for fingerprint, why in failed.items():
            stage = self.graph.stages[fingerprint]
            lines += [
                f"- {stage.label}: {why}",
                f"  log: {self.store.folder(stage)}/log.txt",
                f"  command: {command_line(self.store.arguments(stage, self.graph))}",
            ]
        if blocked:
            lines.append("not run, since they start from these:")
            lines += [f"- {stage.label}" for stage in blocked]
        lines.append("All others are done. Once that is mended, the same command goes on.")
        return "\n".join(lines)


def _passing(status: int) -> bool:
    return status in (MACHINE_ERROR, PREEMPTED) or status < 0 or status >= 128


_BY = {
    INTERRUPTED: "by Ctrl-C",
    -signal.SIGINT: "by Ctrl-C",
    PREEMPTED: "by SIGTERM",
    -signal.SIGTERM: "by SIGTERM",
}
"""How a stage ended that was told to stop, by its status."""


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _why(status: int, log: Path, before: int) -> str:
    """How an attempt ended, and what it logged of it after the `before` bytes of older ones."""
    written = log.read_bytes()[before:] if log.exists() else b""
    lines = written.decode(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("archobj: error: ")]
    told = errors[-1:] or lines[-_LINES:]
    return "\n".join([_how(status), *(f"  {line}" for line in told)])
