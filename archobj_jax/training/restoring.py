"""Reading a checkpoint: which one, what was saved about it, and its arrays, all verified."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from archobj_jax.errors import MachineError, UserError
from archobj_jax.training.checksums import checksums
from archobj_jax.training.sealing import content_sha256
from archobj_jax.training.state import TrainState, flatten

PREFIX = "checkpoint"
_UNREADABLE = (PermissionError, ConnectionError, TimeoutError)
_UNREADABLE_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
"""How TensorStore says that a storage did not answer, whatever lies there."""


class DamagedError(MachineError):
    """A checkpoint is not what was written; an older one may be."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What was read: the state (or only its parameters), and what was saved about it."""

    path: epath.Path
    state: Any
    about: Mapping[str, Any]


def find_checkpoint(path: str, *, binding: str = "CHECKPOINT_PATH") -> epath.Path:
    """The checkpoint at `path`: one itself, or the newest of a run or of a folder of checkpoints.

    Args:
      path: where to look.
      binding: what the user set it by, for errors.

    Raises:
      UserError: there is none that was committed; names what there is.
    """
    given = epath.Path(path) if "://" in path else epath.Path(os.path.abspath(path))
    if (given / "state").exists():
        if not is_committed(given):
            last = ocp.path.atomicity.COMMIT_SUCCESS_FILE
            raise UserError(
                f"{binding}: {path} was not written to its end (it lacks {last}, which comes "
                f"last in a bucket); expected a committed one.{_nearby(given)}"
            )
        return given
    for folder in (given / "checkpoints", given):
        steps = committed_steps(folder)
        if steps:
            return folder / f"{PREFIX}_{steps[-1]}"
    what = "exists but holds no checkpoint" if given.exists() else "does not exist"
    raise UserError(
        f"{binding}: {path} {what}; expected MODEL_DIR of a run, its checkpoints folder, or "
        f"one {PREFIX}_<step>.{_nearby(given)}"
    )


def has_checkpoint(model_dir: str) -> bool:
    """Whether a run has a committed checkpoint, intact or not."""
    return bool(committed_steps(epath.Path(model_dir) / "checkpoints"))


def committed_steps(folder: epath.Path) -> list[int]:
    """Steps of the checkpoints in a folder that were written to their end, ascending."""
    if not folder.is_dir():
        return []
    found = []
    for child in folder.iterdir():
        prefix, _, step = child.name.rpartition("_")
        if prefix == PREFIX and step.isdigit() and is_committed(child):
            found.append(int(step))
    return sorted(found)


def is_committed(path: epath.Path) -> bool:
    """Whether a checkpoint was written to its end, as Orbax marks it.

    On a file system its folder gets its name last. In a bucket, where nothing can be renamed at
    once, the folder has its name from the beginning and a commit file is written last.
    """
    return bool(ocp.path.step.is_checkpoint_finalized(path))


def _nearby(path: epath.Path) -> str:
    folder = path.parent if path.parent.name == "checkpoints" else path.parent / "checkpoints"
    steps = committed_steps(folder)
    names = ", ".join(f"{PREFIX}_{step}" for step in steps)
    return f" In {folder} lie {names}." if steps else ""


def read_about(path: epath.Path) -> dict[str, Any]:
    """What was saved about a checkpoint: `config` (gin), `model`, `lineage`, `arrays`.

    Raises:
      DamagedError: it is not what was written.
      MachineError: it cannot be read now.
    """
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            saved = checkpointer.restore(path / "about")
        content, sha256 = saved["content"], saved["sha256"]
    except Exception as error:
        raise _unusable(path, error) from error
    if content_sha256(content) != sha256:
        raise DamagedError(f"The checkpoint {path} is damaged: the checksum of about/ differs.")
    return content


def restore(path: epath.Path, abstract: Any) -> Restored:
    """Reads a checkpoint into the shapes and shardings of `abstract`, and verifies its checksums.

    Args:
      path: of one checkpoint.
      abstract: a TrainState of `jax.ShapeDtypeStruct`, or a dict with some of its fields;
        `orbax.checkpoint.PLACEHOLDER` stands for an array that is not to be read.

    Raises:
      UserError: its arrays are not those of `abstract`: lists the first differences.
      DamagedError: it is not what was written.
      MachineError: it cannot be read now.
    """
    wanted = as_tree(abstract) if isinstance(abstract, TrainState) else abstract
    about = read_about(path)
    _check_same_model(path, wanted, about["arrays"])
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            args = ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                partial_restore=True,
            )
            tree = checkpointer.restore(path / "state", args)
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # no room for it: that is no damage
    except Exception as error:
        raise _unusable(path, error) from error
    read = {name: leaf for name, leaf in flatten(tree) if leaf is not ocp.PLACEHOLDER}
    for name, value in checksums(read).items():
        if about["arrays"][name][1] != value:
            raise DamagedError(f"The checkpoint {path} is damaged: the checksum of {name} differs.")
    state = TrainState(**tree) if isinstance(abstract, TrainState) else tree
    return Restored(path=path, state=state, about=about)


def as_tree(state: TrainState) -> dict[str, Any]:
    """The state as nested dicts and lists, so that reading needs none of our classes."""
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}


def first_line(error: Exception) -> str:
    """What an error of a library says, short enough for a message of ours."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's, at the end of much
    if code is not None:
        return os.strerror(int(code[1]))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _check_same_model(path: epath.Path, wanted: Any, saved: Mapping[str, Any]) -> None:
    different = []
    for name, leaf in flatten(wanted):
        if leaf is ocp.PLACEHOLDER:
            continue
        if name not in saved:
            different.append(f"it lacks {name}")
        elif saved[name][0] != list(leaf.shape):
            different.append(f"{name} is {saved[name][0]}, expected {list(leaf.shape)}")
    if different:
        more = f"; and {len(different) - 5} more" if different[5:] else ""
        raise UserError(
            f"The checkpoint {path} is of another model or optimizer: "
            f"{'; '.join(different[:5])}{more}. Name another MODEL_DIR, or configure that model."
        )


def _unusable(path: epath.Path, error: Exception) -> MachineError:
    """Damage, unless the error says that the storage does not answer or gives no right to read."""
    why = first_line(error)
    if isinstance(error, _UNREADABLE) or any(code in str(error) for code in _UNREADABLE_CODES):
        return MachineError(
            f"The checkpoint {path} cannot be read now: {why}. Run the same command again once it "
            "can; nothing was changed."
        )
    return DamagedError(f"The checkpoint {path} is damaged: {why}.")
