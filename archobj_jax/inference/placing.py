"""Arrays of an evaluation on the mesh. Every process holds all of them, as numpy."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from archobj_jax.partitioning.rules import LogicalAxisRules


def row_shards(rules: LogicalAxisRules) -> int:
    """Number of shards that rows lie on; batches have a multiple of it."""
    return math.prod(rules.mesh.shape[axis] for axis in rules.rules["batch"])


def place(rules: LogicalAxisRules, arrays: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Arrays [B, …] on the mesh, sharded by rows; every process passes the same."""
    return {name: _place(rules, array) for name, array in arrays.items()}


def _place(rules: LogicalAxisRules, array: np.ndarray) -> jax.Array:
    axes = ("batch",) + (None,) * (array.ndim - 1)
    return jax.make_array_from_callback(
        array.shape, rules.sharding(array.shape, axes), lambda index: array[index]
    )


def replicated(rules: LogicalAxisRules, tree: Any) -> Any:
    """Constrains results, where they are traced, to lie whole on every device.

    So every process can read them.
    """
    return jax.lax.with_sharding_constraint(tree, NamedSharding(rules.mesh, PartitionSpec()))
