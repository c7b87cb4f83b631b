"""Finds gin files by name on the search path, or by a remote address."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from etils import epath

import archobj_jax
from archobj_jax.errors import UserError, did_you_mean

# `t5x_configs` lies beside the package, in a clone as after an install.
_INSTALLED = Path(archobj_jax.__file__).parent.parent


def search_path(extra: Sequence[str] = ()) -> list[Path]:
    """Where gin files are looked up: here, in `extra`, beside the package, in its `t5x_configs`."""
    own = (_INSTALLED, _INSTALLED / "t5x_configs")
    return [Path(), *(Path(folder).expanduser() for folder in extra), *own]


def read(name: str, folders: Sequence[Path], *, asked_by: str) -> tuple[str, str]:
    """Returns (where it was found, the text) of the gin file `name`.

    Args:
        name: a path, relative to one of `folders` or absolute, or an address such as `gs://…`.
        folders: the search path.
        asked_by: what names the file (`--gin_file`, or an include's file and line), for the error.

    Raises:
        UserError: there is no such file; the message names the nearest.
    """
    if "://" in name:
        remote = epath.Path(name)
        if not remote.exists():
            raise UserError(f"{asked_by}: no gin file at {name}.")
        return name, remote.read_text()
    for folder in folders:
        path = folder / Path(name).expanduser()
        if path.is_file():
            return str(path), path.read_text(encoding="utf-8")
    hint = did_you_mean(name, _alternatives(name, folders))
    looked = ", ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
    raise UserError(f"{asked_by}: no gin file '{name}' in {looked}.{hint}")


def definer(macro: str, folders: Sequence[Path]) -> str | None:
    """The ready gin file of `t5x_configs/runs` that defines `macro`, if there is one."""
    for folder in folders:
        for path in sorted((folder / "t5x_configs" / "runs").glob("*.gin")):
            if re.search(
                rf"^{re.escape(macro)} *=", path.read_text(encoding="utf-8"), re.MULTILINE
            ):
                return os.path.relpath(path, folder)
    return None


def _alternatives(name: str, folders: Sequence[Path]) -> Iterator[str]:
    """The gin files to name instead: those of the ready configs, and of the folder meant."""
    for folder in folders:
        meant = folder / Path(name).expanduser().parent
        while not meant.is_dir():
            meant = meant.parent
        for path in (*meant.glob("*.gin"), *(folder / "t5x_configs").rglob("*.gin")):
            yield str(path if Path(name).is_absolute() else os.path.relpath(path, folder))
