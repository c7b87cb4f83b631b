"""The command that runs on every host: what a pod asks of it before anything is paid for."""

import posixpath
import re
from collections.abc import Mapping, Sequence

from archobj_jax.errors import UserError, did_you_mean

_MODEL_DIR = "--gin.MODEL_DIR="


def for_pod(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Returns the command, started by `env` if variables are to be set for it.

    Raises:
        UserError: MODEL_DIR is a folder that hosts would not share, or a variable has no such name.
    """
    for argument in command:
        where = argument.removeprefix(_MODEL_DIR).strip("'\"")
        if argument.startswith(_MODEL_DIR) and "://" not in where and not where.startswith("/"):
            raise UserError(
                f"{argument}: a folder of its own on each host, lost with it. Give "
                "gs://bucket/path, or the full path of a file system that all hosts have mounted."
            )
    for name in environment:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"--env={name}=…: not a name of an environment variable.")
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return ["env", *pairs, *command] if pairs else list(command)


def check_gin_files(command: Sequence[str], files: Sequence[str]) -> None:
    """Checks that the gin files an `archobj` command names are in the commit that will run.

    Those elsewhere are let pass: full paths, gs://, and any with --gin_search_paths.

    Args:
        command: what runs on every host.
        files: of the commit; [] if this clone does not have it, which lets all pass.

    Raises:
        UserError: one is not there; the message names the nearest.
    """
    searches = any(argument.startswith("--gin_search_paths") for argument in command)
    if "archobj" not in command or not files or searches:
        return
    found = set(files)
    for before, argument in zip(("", *command), command, strict=False):
        name = argument.removeprefix("--gin_file=")
        if before != "--gin_file" and name == argument:
            continue
        place = posixpath.normpath(name)
        if "://" in name or name.startswith(("/", "~")):
            continue
        if not {place, f"t5x_configs/{place}"} & found:
            hint = did_you_mean(name, [file for file in files if file.endswith(".gin")])
            raise UserError(f"--gin_file={name}: not in the commit that is to run.{hint}")
