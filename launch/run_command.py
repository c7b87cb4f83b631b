"""The command that runs on every host: what a pod asks of it before anything is paid for."""

import itertools
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from archobj_jax import cli
from archobj_jax.errors import UserError, did_you_mean
from launch.commit import ROOT

_PLACES = re.compile(
    r"--(?:gin\.(?:MODEL_DIR|EVAL_OUTPUT_DIR|CHECKPOINT_PATH|INITIAL_CHECKPOINT_PATH)|store)=(.*)",
    re.DOTALL,
)
"""Arguments of `archobj` that name what all hosts read or write."""

_SHARED = re.compile(r"/|[a-z0-9]+://|[%@]|None$|$")
"""Full paths, addresses, gin's references, and what is not set."""


def for_pod(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Returns the command, started by `env` if variables are to be set for it.

    Raises:
        UserError: `archobj` has no such subcommand or flag, a run has no MODEL_DIR, a place is not
            one that hosts share, or a variable has no such name.
    """
    if list(command[:1]) == ["archobj"]:
        cli.check(command[1:])
    places = list(filter(None, map(_PLACES.fullmatch, command)))
    for place in places:
        if not _SHARED.match(place[1].strip(" '\"")):
            raise UserError(
                f"{place[0]}: not a place that all hosts share; what is written there is lost with "
                "them. Give gs://bucket/path, or the full path of a file system that all hosts "
                "have mounted."
            )
    if _is_study(command) and not any(place[0].startswith("--store=") for place in places):
        raise UserError(
            "archobj study: give --store=, the full path of a file system that the host has "
            "mounted; its default is lost with the host."
        )
    _check_model_dir(command)
    for name in environment:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"--env={name}=…: not a name of an environment variable.")
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return ["env", *pairs, *command] if pairs else list(command)


def _check_model_dir(command: Sequence[str]) -> None:
    """Ready gin files leave it open; one's own may set it."""
    files = [argument for argument in command if argument.startswith("--gin_file=")]
    ready = all(
        re.match(r"--gin_file=(t5x_configs|experiments|partitioning)/", file) for file in files
    )
    given = any(argument.startswith("--gin.MODEL_DIR=") for argument in command)
    trains = list(command[:2]) == ["archobj", "train"] and "--dry_run" not in command
    if trains and files and ready and not given:
        raise UserError("archobj train needs --gin.MODEL_DIR=gs://bucket/path.")


def _is_study(command: Sequence[str]) -> bool:
    return any(pair == ("archobj", "study") for pair in itertools.pairwise(command))


def check_gin_files(command: Sequence[str], files: Sequence[str], root: Path = ROOT) -> None:
    """Checks that the gin files an `archobj` command names are in the commit that will run.

    Those elsewhere are let pass: full paths, gs://, and any with --gin_search_paths.

    Args:
        command: what runs on every host.
        files: of the commit; [] if this clone does not have it, which lets all pass.
        root: the clone.

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
        if Path(name).is_absolute() and Path(name).is_relative_to(root):
            raise UserError(
                f"--gin_file={name}: a path of this machine; hosts have their own clone, so name "
                f"it from there: {Path(name).relative_to(root)}."
            )
        place = posixpath.normpath(name)
        if "://" in name or name.startswith(("/", "~")):
            continue
        if not {place, f"t5x_configs/{place}"} & found:
            hint = did_you_mean(name, [file for file in files if file.endswith(".gin")])
            if (root / place).is_file():
                hint = " It is here, but not committed: commit and push it."
            raise UserError(f"--gin_file={name}: not in the commit that is to run.{hint}")
