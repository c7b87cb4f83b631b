"""`archobj study ACTION STUDY.gin`."""

import os
import sys
from collections.abc import Sequence

from archobj_jax import config, native_messages
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.study.design import Study

DEFAULT_LAUNCHER = "launch/tpu_vm run --config=pod.toml --name={name} --"


def study(
    *,
    action: str,
    file: str,
    store: str = "runs/study",
    dry_run: bool = False,
    beside_others: bool = False,
    watch: bool = False,
    launcher: str = DEFAULT_LAUNCHER,
    bindings: Sequence[str] = (),
) -> None:
    """Runs a study, or tells of it.

    Args:
      action: run, status, report or commands.
      file: the study's gin file.
      store: folder of stages and studies; local for `run`.
      dry_run: of `run`: only prints what it would do.
      beside_others: of `run`: takes the stages that no other `study run` of the store is at.
      watch: of `status`: prints it again every few seconds.
      launcher: of `commands`: what goes before each command.
      bindings: over the file's, as `--gin.` takes them.

    Raises:
      UserError: a mistake in the study; or, after all else is done, stages that failed.
      SystemExit: told to stop, and the stage at work has ended.
    """
    if action not in _ACTIONS:
        raise UserError(
            f"there is no `archobj study {action}`; expected {', '.join(_ACTIONS)}."
            f"{did_you_mean(action, _ACTIONS)}"
        )
    environment = dict(os.environ)
    # We only look at shapes: the accelerators are the stages'.
    os.environ["JAX_PLATFORMS"] = "cpu"
    print(f"Reading {file} and the gin files of its stages.", file=sys.stderr, flush=True)
    config.parse([file], bindings, functions=[Study])
    described = config.call(Study)  # a mistake in it is told before the seconds of imports
    with native_messages.held_back():
        from archobj_jax.study.session import Session

    session = Session.of(described, store, environment)
    if action == "run":
        session.run(dry_run=dry_run, beside_others=beside_others)
    elif action == "status":
        session.status(watch=watch)
    elif action == "report":
        session.report()
    else:
        print(session.commands(launcher))


_ACTIONS = ("run", "status", "report", "commands")
