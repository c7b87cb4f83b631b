"""`archobj study run`: stage after stage, going on where it was, past branches that fail."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from archobj_jax.errors import MACHINE_ERROR, PREEMPTED, UserError
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
      pause: seconds before it is tried again, doubled each time.
      say: prints a line.
    """

    graph: Graph
    store: Store
    environment: Mapping[str, str]
    execute: Execute = execution.execute
    attempts: int = 3
    pause: float = 5.0
    say: Callable[[str], None] = print

    def run(self) -> None:
        """Runs all stages that are not done.

        Raises:
          UserError: stages failed; says which, why, and what waits for them.
          execution.StoppedError: told to stop.
        """
        failed: dict[str, str] = {}
        blocked: list[Stage] = []
        for number, stage in enumerate(self.graph, start=1):
            if self.store.is_done(stage):
                continue
            if stage.parent in failed or any(stage.parent == each.fingerprint for each in blocked):
                blocked.append(stage)
                continue
            if why := self._run(stage, f"[{number}/{len(self.graph)}]"):
                failed[stage.fingerprint] = why
        if failed:
            raise UserError(self._told(failed, blocked))

    def _run(self, stage: Stage, number: str) -> str | None:
        """Runs a stage to its end; returns why it failed, or None."""
        folder = Path(self.store.folder(stage))
        progress = Progress(stage, self.store, number, self.say)
        with execution.only_one(folder, progress.waiting) as lock, progress:
            if self.store.is_done(stage):
                progress.end("done by another process")
                return None
            self.store.begin(stage, self.graph)
            for attempt in range(1, self.attempts + 1):
                status = self._attempt(stage, folder, lock, progress)
                if status == 0:
                    self.store.finish(stage)
                    progress.end("done")
                    return None
                why = _why(status, folder / "log.txt")
                if not _passing(status) or attempt == self.attempts:
                    break
                pause = self.pause * 2 ** (attempt - 1)
                progress.say(f"{why.splitlines()[0]}; trying again in {pause:.0f} s")
                time.sleep(pause)
            progress.end(f"FAILED, {why.splitlines()[0]}")
            return why

    def _attempt(self, stage: Stage, folder: Path, lock: int, progress: Progress) -> int:
        start = time.time()
        status = 1
        try:
            status = self.execute(
                self.store.arguments(stage, self.graph),
                log=folder / "log.txt",
                lock=lock,
                environment=self.environment,
                progress=progress.update,
            )
        except execution.StoppedError as stopped:
            status = stopped.status
            raise
        finally:
            self.store.add_attempt(
                stage, {"status": status, "seconds": time.time() - start, "started": start}
            )
        return status

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


def _why(status: int, log: Path) -> str:
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if line.startswith("archobj: error: ")]
    told = errors[-1:] or lines[-_LINES:]
    return "\n".join([how, *(f"  {line}" for line in told)])
