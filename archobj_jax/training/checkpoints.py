"""Checkpoints in MODEL_DIR/checkpoints: written in the background, verified when read.

A checkpoint `checkpoint_<step>` holds, committed together or not at all: `state` (step, parameters,
optimizer state), and `about` (a checksum of every array, the operative gin, the lineage).
"""

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

from archobj_jax.errors import MachineError, UserError
from archobj_jax.training.state import TrainState, checksums, flatten

PREFIX = "checkpoint"
_WRITE_EVENT = "/jax/orbax/write/async/total_duration_secs"


@dataclasses.dataclass(frozen=True)
class SaveCheckpointConfig:
    """When to save, and what to keep (T5X's name; `period` and `keep` are T5X's).

    Attributes:
      period: steps between saves; the last step is always saved.
      keep: the newest checkpoints to keep.
      keep_period: checkpoints at multiples of this step stay for ever; None for none.
      keep_best: how many to keep for the lowest held-out loss, of those saved right after an
        evaluation.
    """

    period: int = 1000
    keep: int = 3
    keep_period: int | None = None
    keep_best: int = 1

    def __post_init__(self):
        if self.period < 1 or self.keep < 1:
            raise UserError(
                f"SaveCheckpointConfig: period = {self.period} and keep = {self.keep} must be at "
                "least 1."
            )

    def policy(self) -> checkpoint_managers.PreservationPolicy:
        """Orbax's policy: kept for any of the reasons."""
        policies: list[Any] = [checkpoint_managers.LatestN(self.keep)]
        if self.keep_period:
            policies.append(checkpoint_managers.EveryNSteps(self.keep_period))
        if self.keep_best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics["loss"],
                    reverse=True,
                    n=self.keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return checkpoint_managers.AnyPreservationPolicy(policies)


@dataclasses.dataclass(frozen=True)
class Restored:
    """What was read: the state (or only its parameters), and what was saved about it."""

    path: epath.Path
    state: Any
    about: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run. `save` returns before the write is done."""

    def __init__(self, model_dir: str, config: SaveCheckpointConfig):
        self.directory = checkpoint_directory(model_dir)
        options = ocp.CheckpointManagerOptions(
            step_prefix=PREFIX,
            preservation_policy=config.policy(),
            save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
            cleanup_tmp_directories=True,
        )
        with _explained(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        self.blocked_seconds = 0.0
        self.write_seconds = 0.0
        self._saving: int | None = None
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    def _on_event(self, event: str, duration: float, **_: Any) -> None:
        if event == _WRITE_EVENT:
            self.write_seconds = duration

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self, state: TrainState, about: Mapping[str, Any], *, loss: float | None = None
    ) -> None:
        """Starts to write `state`; its arrays are copied before this returns.

        Args:
          state: may be donated right afterwards.
          about: JSON values to keep with it.
          loss: held-out loss of this very state, if it was just evaluated.

        Raises:
          MachineError: this save, or the one before it, failed; older checkpoints are intact.
        """
        start = time.perf_counter()
        step = int(state.step)
        about = {**about, "checksums": dict(checksums(_tree(state)))}
        with _explained(self.directory, self._saving or step, self.steps()):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_tree(state)), about=ocp.args.JsonSave(about)
                ),
                metrics=None if loss is None else {"loss": loss},
            )
        self._saving = step
        self.blocked_seconds = time.perf_counter() - start

    def wait(self) -> None:
        """Waits for the write in progress.

        Raises:
          MachineError: it failed.
        """
        with _explained(self.directory, self._saving, self.steps()):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and releases what the manager holds."""
        self.wait()
        self._manager.close()

    def restore_latest(self, abstract: TrainState) -> Restored | None:
        """The newest intact checkpoint, in the shapes and shardings of `abstract`.

        A damaged one is named in the log, renamed to `checkpoint_<step>.damaged`, and the one
        before it is tried.

        Raises:
          UserError: the checkpoint is of another model or optimizer.
          MachineError: there are checkpoints, and all are damaged.
        """
        damaged = []
        for step in reversed(self.steps()):
            path = self.directory / f"{PREFIX}_{step}"
            try:
                return restore(path, abstract)
            except MachineError as error:
                logging.error("%s", error)
                damaged.append(str(path))
                self._set_aside(path)
        if damaged:
            raise MachineError(
                f"Every checkpoint is damaged: {', '.join(damaged)} (renamed to *.damaged). Restore "
                "one from a copy, or start the run again in another MODEL_DIR."
            )
        return None

    def _set_aside(self, path: epath.Path) -> None:
        if jax.process_index() == 0:
            path.rename(path.parent / f"{path.name}.damaged")
        if jax.process_count() > 1:
            jax.experimental.multihost_utils.sync_global_devices("set aside a damaged checkpoint")
        self._manager.reload()


def checkpoint_directory(model_dir: str) -> epath.Path:
    """Where a run in `model_dir` keeps its checkpoints."""
    path = epath.Path(model_dir) / "checkpoints"
    return path if "://" in str(path) else epath.Path(os.path.abspath(path))


def find_checkpoint(path: str) -> epath.Path:
    """The checkpoint at `path`: one itself, or the newest of a run or of a folder of checkpoints.

    Raises:
      UserError: there is none; names what there is.
    """
    given = epath.Path(path) if "://" in path else epath.Path(os.path.abspath(path))
    if (given / "state").exists():
        return given
    for folder in (given / "checkpoints", given):
        steps = sorted(_steps_in(folder))
        if steps:
            return folder / f"{PREFIX}_{steps[-1]}"
    what = "exists but holds no checkpoint" if given.exists() else "does not exist"
    raise UserError(
        f"CHECKPOINT_PATH: {path} {what}; expected MODEL_DIR of a run, its checkpoints folder, or "
        f"one {PREFIX}_<step>.{_nearby(given)}"
    )


def _steps_in(folder: epath.Path) -> Iterable[int]:
    if not folder.is_dir():
        return
    for child in folder.iterdir():
        prefix, _, step = child.name.rpartition("_")
        if prefix == PREFIX and step.isdigit():
            yield int(step)


def _nearby(path: epath.Path) -> str:
    folder = path.parent if path.parent.name == "checkpoints" else path.parent / "checkpoints"
    steps = sorted(_steps_in(folder))
    return f" There are {PREFIX}_{{{','.join(map(str, steps))}}} in {folder}." if steps else ""


def read_about(path: epath.Path) -> dict[str, Any]:
    """What was saved about a checkpoint: `config` (gin), `lineage`, `checksums`.

    Raises:
      MachineError: it cannot be read.
    """
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            return dict(checkpointer.restore(path / "about"))
    except Exception as error:
        raise MachineError(f"The checkpoint {path} is damaged: {error}") from error


def restore(path: epath.Path, abstract: Any) -> Restored:
    """Reads a checkpoint into the shapes and shardings of `abstract`, and verifies its checksums.

    Args:
      path: of one checkpoint.
      abstract: a TrainState of `jax.ShapeDtypeStruct`, or a dict with some of its fields.

    Raises:
      UserError: its arrays are not those of `abstract`: lists the first differences.
      MachineError: it is damaged.
    """
    wanted = _tree(abstract) if isinstance(abstract, TrainState) else abstract
    about = read_about(path)
    _check_same_arrays(path, wanted, set(about["checksums"]))
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            _check_same_shapes(path, wanted, checkpointer.metadata(path / "state"))
            args = ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                partial_restore=True,
            )
            tree = checkpointer.restore(path / "state", args)
    except UserError:
        raise
    except Exception as error:
        raise MachineError(f"The checkpoint {path} is damaged: {_first_line(error)}") from error
    for name, value in checksums(tree).items():
        if about["checksums"][name] != value:
            raise MachineError(f"The checkpoint {path} is damaged: the checksum of {name} differs.")
    state = TrainState(**tree) if isinstance(abstract, TrainState) else tree
    return Restored(path=path, state=state, about=about)


def _tree(state: TrainState) -> dict[str, Any]:
    """The state as nested dicts and lists, so that reading needs none of our classes."""
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}


def _check_same_arrays(path: epath.Path, wanted: Any, saved: set[str]) -> None:
    missing = sorted(name for name, _ in flatten(wanted) if name not in saved)
    if missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise UserError(
            f"The checkpoint {path} is of another model or optimizer: it lacks {listed}."
        )


def _check_same_shapes(path: epath.Path, wanted: Any, metadata: Any) -> None:
    saved = {name: tuple(leaf.shape) for name, leaf in flatten(metadata.item_metadata.tree)}
    different = [
        f"{name} is {list(saved[name])}, expected {list(leaf.shape)}"
        for name, leaf in flatten(wanted)
        if saved.get(name) != tuple(leaf.shape)
    ]
    if different:
        more = f"; and {len(different) - 5} more" if different[5:] else ""
        raise UserError(
            f"The checkpoint {path} is of another model: {'; '.join(different[:5])}{more}."
        )


class _explained:
    """Turns failures of a write into a MachineError that says what is safe and how to go on."""

    def __init__(self, directory: epath.Path, step: int | None = None, safe: list[int] | None = None):
        self._directory, self._step, self._safe = directory, step, safe or []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        if kind is None or not isinstance(error, Exception):
            return
        what = "open" if self._step is None else f"save {PREFIX}_{self._step} in"
        safe = [step for step in self._safe if step != self._step]
        newest = f"{PREFIX}_{safe[-1]} is intact" if safe else "none was saved before"
        raise MachineError(
            f"Could not {what} {self._directory}: {_first_line(error)} ({newest}). Free space or "
            "mend the storage, then run the same command again: it goes on from there."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
