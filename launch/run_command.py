"""The command that runs on every host: what a pod asks of it before anything is paid for."""

import re
from collections.abc import Mapping, Sequence

from archobj_jax.errors import UserError

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
