"""Checkpoints in MODEL_DIR/checkpoints: written in the background, verified when read.

A checkpoint `checkpoint_<step>` holds, committed together or not at all: `state` (step, parameters,
optimizer state), and `about` (operative gin, lineage, the shape and a checksum of every array).
"""

import contextlib
import dataclasses
import gc
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from archobj_jax.errors import MachineError, UserError
from archobj_jax.training import orbax_noise
from archobj_jax.training.restoring import (
    PREFIX,
    DamagedError,
    Restored,
    as_tree,
    first_line,
    restore,
)
from archobj_jax.training.sealing import LateJsonSave, sealed
from archobj_jax.training.state import TrainState

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

    def __post_init__(self) -> None:
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


class Checkpoints:
    """The checkpoints of one run. `save` returns before the write is done.

    Left as a context, it finishes the write in progress, whatever ended the run.
    """

    def __init__(self, model_dir: str, config: SaveCheckpointConfig):
        self.directory = checkpoint_directory(model_dir)
        options = ocp.CheckpointManagerOptions(
            step_prefix=PREFIX,
            preservation_policy=config.policy(),
            save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
            cleanup_tmp_directories=True,
            # Else a folder that cannot be made keeps the process waiting for ten minutes.
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
        )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except Exception as error:
            raise _failed(f"open {self.directory}", first_line(error)) from error
        self.blocked_seconds = 0.0
        self.write_seconds = 0.0
        self._saving: int | None = None
        self._failed = False
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    def _on_event(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == _WRITE_EVENT:
            self.write_seconds = duration_secs

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
        tree = as_tree(state)
        self.wait()
        with self._explained(step):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(tree), about=LateJsonSave(sealed(tree, about))
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
        with self._explained(self._saving):
            self._manager.wait_until_finished()
        self._saving = None

    def __enter__(self) -> "Checkpoints":
        self._unmute = orbax_noise.mute()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        try:
            self.wait()
        except MachineError as failed:
            if error is None:
                raise
            if str(failed) != str(error):
                if isinstance(error, MachineError):  # of one full disk, the save tells what is safe
                    print(error, file=sys.stderr, flush=True)
                    raise failed from None
                print(failed, file=sys.stderr, flush=True)  # the error tells what ended the run
        finally:
            jax.monitoring.unregister_event_duration_listener(self._on_event)
            with contextlib.suppress(Exception):  # what may fail has failed above
                self._manager.close()
            if self._failed:
                # What is left of the failed write's operations complains as it is freed: now, while
                # it is muted, and not when the interpreter ends.
                del self._manager
                gc.collect()
            else:
                self._unmute()

    def restore_latest(self, abstract: TrainState) -> Restored | None:
        """The newest intact checkpoint, in the shapes and shardings of `abstract`.

        A damaged one is named on stderr and the one before it is tried; once an intact one is
        found, the damaged are renamed to `checkpoint_<step>.damaged`.

        Raises:
          UserError: the checkpoint is of another model or optimizer.
          MachineError: there are checkpoints, and all are damaged.
        """
        damaged: list[epath.Path] = []
        for step in reversed(self.steps()):
            path = self.directory / f"{PREFIX}_{step}"
            restored = _restored_on_all(path, abstract)
            if restored is None:
                damaged.append(path)
                continue
            if damaged:
                self._set_aside(damaged)
            return restored
        if damaged:
            raise MachineError(
                f"Every checkpoint in {self.directory} is damaged: "
                f"{', '.join(path.name for path in damaged)}. Restore one from a copy, or delete "
                "them to start the run again."
            )
        return None

    @contextlib.contextmanager
    def _explained(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failed = True
            # Read anew: the manager forgets at once what it will delete after this save.
            safe = [other for other in sorted(self._manager.all_steps(read=True)) if other != step]
            newest = f"{PREFIX}_{safe[-1]} is intact" if safe else "none was saved before"
            what = f"save {PREFIX}_{step} in {self.directory}"
            why = f"{first_line(error)} ({newest})"
        else:
            return
        # Not from that error, whose traceback would keep the write's operations alive.
        raise _failed(what, why) from None

    def _set_aside(self, paths: list[epath.Path]) -> None:
        if jax.process_index() == 0:
            for path in paths:
                name = f"{path.name}.damaged"
                others = sum(p.name.startswith(name) for p in self.directory.iterdir())
                path.rename(self.directory / (f"{name}.{others}" if others else name))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("set aside damaged checkpoints")
        self._manager.reload()


def _restored_on_all(path: epath.Path, abstract: TrainState) -> Restored | None:
    """The checkpoint, or None if any process finds it damaged; says so on stderr."""
    restored = None
    try:
        restored = restore(path, abstract)
    except DamagedError as error:
        print(error, file=sys.stderr, flush=True)
    if jax.process_count() > 1:
        intact = multihost_utils.process_allgather(np.array(restored is not None))
        return restored if intact.all() else None
    return restored


def checkpoint_directory(model_dir: str) -> epath.Path:
    """Where a run in `model_dir` keeps its checkpoints."""
    path = epath.Path(model_dir) / "checkpoints"
    return path if "://" in str(path) else epath.Path(os.path.abspath(path))


def _failed(what: str, why: str) -> MachineError:
    return MachineError(
        f"Could not {what}: {why}. Free space or mend the storage, then run the same command "
        "again: it goes on from there."
    )
