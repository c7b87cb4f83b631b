"""All processes of a run must have been asked for the same; else they hang, or mix two runs."""

import json
from collections.abc import Mapping

import jax
from jax._src import distributed  # no public name gives the coordination service's client

from archobj_jax.errors import UserError

_ASKED = "archobj_asked"
_AT_MOST = 8


def check_agreement(asked: Mapping[str, str], *, timeout: float) -> None:
    """Compares what this process was asked for with what process 0 was.

    Args:
      asked: by name: flags, bindings, versions.
      timeout: seconds to wait for process 0 to say.

    Raises:
      UserError: something differs.
    """
    client = distributed.global_state.client
    if client is None:
        return
    if jax.process_index() == 0:
        client.key_value_set(_ASKED, json.dumps(dict(asked)))
        return
    first = json.loads(client.blocking_key_value_get(_ASKED, int(1000 * timeout)))
    differences = [
        f"{name} is {asked.get(name, 'not given')} and not {first.get(name, 'left open')}"
        for name in sorted(first.keys() | asked.keys())
        if first.get(name) != asked.get(name)
    ]
    if not differences:
        return
    if len(differences) > _AT_MOST:
        differences[_AT_MOST:] = [f"{len(differences) - _AT_MOST} more"]
    raise UserError(
        f"process {jax.process_index()} was not started as process 0 was: "
        f"{'; '.join(differences)}. Start all processes of a run with the same command and files."
    )
