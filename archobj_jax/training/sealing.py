"""What is saved about a checkpoint beside its arrays: sealed by checksums, in the background."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from archobj_jax.training.checksums import started_checksums
from archobj_jax.training.state import flatten


def sealed(tree: Any, about: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """Starts to describe a checkpoint of `tree`; the function returned waits for it.

    Returns:
      A function that gives `about` with the shape and a checksum of every array as `arrays`, and
      a checksum of all that.
    """
    sums = started_checksums(tree)
    shapes = {name: list(leaf.shape) for name, leaf in flatten(tree)}

    def describe() -> dict[str, Any]:
        arrays = {name: [shapes[name], value] for name, value in sums().items()}
        content = {**about, "arrays": arrays}
        return {"content": content, "sha256": content_sha256(content)}

    return describe


class _LateJsonHandler(ocp.JsonCheckpointHandler):
    """Writes as JSON what a function returns, which is called in the background."""

    async def _save_fn(self, x: Callable[[], Any], directory: epath.Path) -> None:
        await super()._save_fn(x(), directory)


@ocp.args.register_with_handler(_LateJsonHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class LateJsonSave(ocp.args.CheckpointArgs):
    """What Orbax is to save as JSON: the result of `item`, called in the background."""

    item: Any = None  # Orbax insists on arguments for reading too, which have none


def content_sha256(content: Mapping[str, Any]) -> str:
    """The checksum that seals what is saved about a checkpoint."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
