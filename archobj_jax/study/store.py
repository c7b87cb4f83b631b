"""Where stages lie, whichever study asked for them, and what state each is in.

STORE/stages/<folder>/   one stage: MODEL_DIR of its training, or EVAL_OUTPUT_DIR
  stage.json             what it is
  attempts.jsonl         how often it was tried, and how each ended
  done.json              written last, by `archobj study run`
  log.txt                what its commands printed
STORE/studies/<name>/    graph.json (as last run), asked.json, report/
"""

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from etils import epath

from archobj_jax.errors import INTERRUPTED, PREEMPTED
from archobj_jax.study import execution
from archobj_jax.study.graph import Graph, Stage
from archobj_jax.training import restoring
from archobj_jax.training.reporting import METRICS_FILE, json_lines, write_text

State = Literal["done", "running", "failed", "begun", "ready", "waiting"]


@dataclasses.dataclass(frozen=True)
class Store:
    """The folders of stages and studies.

    Attributes:
      root: local, or gs://.
    """

    root: str

    def folder(self, stage: Stage) -> str:
        """The folder of a stage."""
        return f"{self.root.rstrip('/')}/stages/{stage.folder}"

    def study_folder(self, name: str) -> str:
        """The folder of a study."""
        return f"{self.root.rstrip('/')}/studies/{name}"

    def path(self, stage: Stage, name: str) -> epath.Path:
        """A file of a stage."""
        return epath.Path(self.folder(stage)) / name

    def arguments(self, stage: Stage, graph: Graph) -> list[str]:
        """The arguments of `archobj` that run the stage."""
        parent = graph.parent(stage)
        places = {}
        if stage.kind == "evaluate":
            assert parent is not None
            places = {
                "CHECKPOINT_PATH": self.folder(parent),
                "EVAL_OUTPUT_DIR": self.folder(stage),
            }
        else:
            places = {"MODEL_DIR": self.folder(stage), "TRAIN_STEPS": str(stage.total_steps)}
            if parent is not None:
                places["INITIAL_CHECKPOINT_PATH"] = self.folder(parent)
        return [
            "evaluate" if stage.kind == "evaluate" else "train",
            *(f"--gin_file={name}" for name in stage.gin_files),
            *(f"--gin.{binding}" for binding in stage.bindings),
            *(f"--gin.{name}={value}" for name, value in places.items()),
        ]

    def is_done(self, stage: Stage) -> bool:
        """Whether the stage was run to its end, by `study run` or by a command that it printed."""
        return self.path(stage, "done.json").exists() or self.complete(stage)

    def complete(self, stage: Stage) -> bool:
        """Whether what the stage's command writes last is there."""
        if stage.kind != "evaluate":
            return self.newest_step(stage) == stage.total_steps and self._last_evaluated(stage)
        path = self.results(stage)
        return path is not None and _without_failures(path)

    def _last_evaluated(self, stage: Stage) -> bool:
        """Whether the last step was evaluated, if any was: told to stop, a stage saves before.

        If none was, its last checkpoint says whether an evaluation is due; one that is damaged is
        not the end of a stage, which then goes on from the one before.
        """
        steps = {record["step"] for record in self.records(stage) if "loss" not in record}
        if steps:
            return stage.total_steps in steps
        newest = self.path(stage, "checkpoints") / f"{restoring.PREFIX}_{stage.total_steps}"
        try:
            return not restoring.read_about(newest).get("evaluation_due", False)
        except restoring.DamagedError:
            return False

    def newest_step(self, stage: Stage) -> int:
        """The step of the newest committed checkpoint of a training stage; -1 if it has none."""
        steps = restoring.committed_steps(self.path(stage, "checkpoints"))
        return max(steps, default=-1)

    def results(self, stage: Stage) -> epath.Path | None:
        """The results file of an evaluation, if it is there."""
        folder = epath.Path(self.folder(stage))
        if not folder.exists():
            return None
        ours = ("stage.json", "done.json")
        found = [path for path in folder.glob("*.json") if path.name not in ours]
        return min(found, default=None)

    def state(self, stage: Stage, graph: Graph) -> State:
        """What state it is in.

        "running": a process is at it, which shows in a local store only; "begun": it was begun, and
        goes on from there; "ready": it has nothing to wait for.
        """
        if self.is_done(stage):
            return "done"
        if "://" not in self.root and execution.is_at_work(Path(self.folder(stage))):
            return "running"
        attempts = self.attempts(stage)
        if attempts and attempts[-1]["status"] not in (0, PREEMPTED, INTERRUPTED):
            again = self._begun(stage) > attempts[-1]["started"]
            return "begun" if again else "failed"
        if self.path(stage, "stage.json").exists() or self.records(stage):
            return "begun"
        parent = graph.parent(stage)
        return "ready" if parent is None or self.is_done(parent) else "waiting"

    def records(self, stage: Stage) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, without a last line that is cut off."""
        return _records(self.path(stage, METRICS_FILE))

    def attempts(self, stage: Stage) -> list[dict[str, Any]]:
        """How the stage was tried, oldest first."""
        return _records(self.path(stage, "attempts.jsonl"))

    def begin(self, stage: Stage, graph: Graph, *, started: float) -> None:
        """Writes what the stage is, and when this attempt at it began (seconds since 1970)."""
        record = dataclasses.asdict(stage) | {
            "arguments": self.arguments(stage, graph),
            "started": started,
        }
        write_text(self.path(stage, "stage.json"), json.dumps(record, indent=2) + "\n")

    def _begun(self, stage: Stage) -> float:
        """When the last attempt began, also one that has not ended."""
        started: float = json.loads(self.path(stage, "stage.json").read_text())["started"]
        return started

    def add_attempt(self, stage: Stage, attempt: Mapping[str, Any]) -> None:
        """Adds a line to the attempts."""
        with Path(self.folder(stage), "attempts.jsonl").open("a") as file:
            file.write(json.dumps(dict(attempt)) + "\n")

    def finish(self, stage: Stage) -> None:
        """Writes that the stage is done, or nothing."""
        seconds = sum(attempt["seconds"] for attempt in self.attempts(stage))
        done = {"fingerprint": stage.fingerprint, "seconds": seconds}
        write_text(self.path(stage, "done.json"), json.dumps(done) + "\n")

    def last_graph(self, name: str) -> dict[str, dict[str, str]]:
        """Of the study as it was run last: place, label, folder, config, data by fingerprint."""
        path = epath.Path(self.study_folder(name)) / "graph.json"
        found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def ever_asked(self, name: str) -> set[str]:
        """Fingerprints of all stages that the study asked for in any of its runs."""
        path = epath.Path(self.study_folder(name)) / "asked.json"
        return set(json.loads(path.read_text())) if path.exists() else set()

    def keep_graph(self, graph: Graph) -> None:
        """Keeps the study as it is run now, for `last_graph` and `ever_asked`."""
        content = {
            stage.fingerprint: {
                "place": stage.place,
                "label": stage.label,
                "folder": stage.folder,
                "config": stage.config,
                "data": stage.data,
            }
            for stage in graph
        }
        folder = epath.Path(self.study_folder(graph.name))
        asked = sorted(self.ever_asked(graph.name) | content.keys())
        write_text(folder / "asked.json", json.dumps(asked) + "\n")
        write_text(folder / "graph.json", json.dumps(content, indent=2) + "\n")


def command_line(arguments: Sequence[str]) -> str:
    """`archobj` with these arguments, as a shell reads it."""
    return shlex.join(["archobj", *arguments])


def _without_failures(path: epath.Path) -> bool:
    """Whether no task of a results file failed; reads it up to there, and not its examples.

    `json_records` sorts keys and begins each of the outermost on a line of its own, after a space.
    """
    with path.open() as file:
        for line in file:
            if line.startswith(' "failed":'):
                return line.strip().rstrip(",") == '"failed": {}'
    return False


def _records(path: epath.Path) -> list[dict[str, Any]]:
    return [record for record, _ in json_lines(path)]
