"""Large arrays that every device would hold whole: an error, unless the user allows them."""

import math
from typing import Any

import jax

from archobj_jax.errors import UserError
from archobj_jax.tables import readable_bytes
from archobj_jax.training.state import Blueprint, path_name, slot_axes

_SHARDING = ("fsdp", "tensor")
"""The mesh axes that are there to shard parameters."""


def check_sharded(blueprint: Blueprint, arrays: Any) -> None:
    """Checks parameters and optimizer state where they are meant to be sharded.

    Args:
      blueprint: of the model.
      arrays: a tree of its abstract arrays, with their shardings.

    Raises:
      UserError: one is larger than `Partitioner.largest_unsharded_bytes`, and no rule shards it.
    """
    rules = blueprint.rules
    if math.prod(rules.mesh.shape[axis] for axis in _SHARDING) == 1:
        return
    for path, array in jax.tree_util.tree_leaves_with_path(arrays):
        size = math.prod(array.shape) * array.dtype.itemsize
        if size > rules.largest_unsharded_bytes and array.sharding.is_fully_replicated:
            shape = " x ".join(map(str, array.shape))
            raise UserError(
                f"{path_name(path)}, {shape} of {array.dtype} ({readable_bytes(size)}), would lie "
                f"whole on each of the {rules.mesh.size} devices: {_why(blueprint, path, array)}. "
                "Choose sizes or a mesh that divide, give another rule in Partitioner.rules, or "
                f"allow it: --gin.Partitioner.largest_unsharded_bytes={size}."
            )


def _why(blueprint: Blueprint, path: Any, array: jax.ShapeDtypeStruct) -> str:
    """What the rules say of the axes of an array that they do not shard."""
    info = blueprint.parameter_of(path)
    axes = None if info is None else slot_axes(array.shape, info)
    if axes is None:
        return "it is no parameter's, so that no rule covers it"
    rules = blueprint.rules
    told = []
    for axis, size in zip(axes, array.shape, strict=True):
        mesh_axes = [f"{each}={rules.mesh.shape[each]}" for each in rules.rules[axis]]
        told.append(f"'{axis}' ({size}) on {' and '.join(mesh_axes) or 'nothing'}")
    return f"the rules lay {', '.join(told)}, and none of these shards it"
