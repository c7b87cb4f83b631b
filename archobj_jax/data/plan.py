"""Packing plans on disk: made once, then read by every process and every later run.

<cache_dir>/packings/<16 hex of what it is made of>/
    plan.json        what it is made of, statistics, checksums
    examples.npy     int64 [examples], row after row; see `packing.Packed`
    rows.npy         int64 [rows + 1]
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archobj_jax.data import atomic, locking, manifest, packing
from archobj_jax.data.packing import Member
from archobj_jax.data.packing_statistics import Statistics
from archobj_jax.errors import MachineError
from archobj_jax.objectives import AsGiven, Layout

FORMAT = 1
FILE = "plan.json"
FOLDER = "packings"
ARRAYS = ("examples", "rows")


class Plan:
    """The packed rows of one epoch, memory-mapped. A pickled plan opens its files anew.

    Args:
      folder: where it lies; its name is the plan's fingerprint.
      statistics: what the rows hold.
    """

    def __init__(self, folder: Path, statistics: Statistics):
        self.folder, self.statistics = folder, statistics
        self._open()

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with all that the rows depend on."""
        return self.folder.name

    def __len__(self) -> int:
        return self.statistics.rows

    def row(self, row: int) -> np.ndarray:
        """Returns int64 [examples of the row]: their numbers, as `ExampleStore` has them."""
        return self._examples[self._rows[row] : self._rows[row + 1]]

    def _open(self) -> None:
        self._examples, self._rows = (
            np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS
        )

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "statistics": self.statistics}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def ensure(
    members: Sequence[Member],
    objective: AsGiven,
    layout: Layout,
    lengths: Mapping[str, int],
    *,
    seed: int,
    cache_dir: Path,
) -> Plan:
    """Returns the plan that `packing.pack` makes of the same arguments, made now if not there.

    Raises:
      MachineError: a damaged plan or cache, or a disk that cannot be written.
    """
    made_of = _made_of(members, objective, layout, lengths, seed)
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    folder = cache_dir / FOLDER / digest[:16]
    found = _read(folder)
    if found is None:
        with locking.locked(folder):
            found = _read(folder)
            if found is None:
                packed = packing.pack(members, objective, layout, lengths, seed)
                _write(folder, packed, made_of)
                found = Plan(folder, packed.statistics)
    return found


def _made_of(
    members: Sequence[Member],
    objective: AsGiven,
    layout: Layout,
    lengths: Mapping[str, int],
    seed: int,
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "tasks": [
            [m.task, m.cache.manifest.split, m.rate, m.cache.manifest.fingerprint] for m in members
        ],
        "objective": repr(objective),
        "layout": repr(layout),
        "room": layout.room(lengths),
        "lengths": dict(lengths),
        "seed": seed,
        "window": packing.WINDOW,
        "examples": [packing.MIN_EXAMPLES, packing.MAX_EXAMPLES],
    }


def _read(folder: Path) -> Plan | None:
    """Returns the plan in `folder`, None if there is none or not a whole one."""
    try:
        text = (folder / FILE).read_text()
    except FileNotFoundError:
        return None
    if not all((folder / f"{name}.npy").exists() for name in ARRAYS):
        return None
    try:
        content = json.loads(text)
        statistics = Statistics.of_json(content["statistics"])
        sums = {name: content["sha256"][name] for name in ARRAYS}
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(f"{folder / FILE} is damaged ({error}); {_mend(folder)}") from error
    for name, expected in sums.items():
        path = folder / f"{name}.npy"
        if manifest.sha256(path) != expected:
            raise MachineError(
                f"{path} is damaged, its SHA-256 is not that of {FILE}; {_mend(folder)}"
            )
    return Plan(folder, statistics)


def _write(folder: Path, packed: packing.Packed, made_of: Mapping[str, Any]) -> None:
    sums = {}
    try:
        for name in ARRAYS:
            content = io.BytesIO()
            np.save(content, getattr(packed, name), allow_pickle=False)
            sums[name] = hashlib.sha256(content.getbuffer()).hexdigest()
            atomic.write(folder / f"{name}.npy", content.getvalue())
        statistics = dataclasses.asdict(packed.statistics)
        about = {"made_of": made_of, "statistics": statistics, "sha256": sums}
        manifest.write_json(folder / FILE, about)
    except OSError as error:
        raise MachineError(
            f"packing plan {folder} cannot be written ({error}); free space or name another "
            "CACHE_DIR, then run the same command again"
        ) from error


def _mend(folder: Path) -> str:
    return f"delete that folder and run the same command again, which makes it anew: rm -r {folder}"
