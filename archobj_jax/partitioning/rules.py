"""Logical-axis rules: which mesh axes a logical axis of a parameter or an activation lies on."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from archobj_jax.errors import UserError, did_you_mean

MeshAxes = tuple[str, ...]

STANDARD_RULES: tuple[tuple[str, MeshAxes], ...] = (
    ("batch", ("data", "fsdp")),
    ("length", ("sequence",)),
    ("kv_length", ()),
    ("activation_embed", ()),
    ("embed", ("fsdp",)),
    ("vocab", ("tensor",)),
    ("mlp", ("tensor",)),
    ("heads", ("tensor",)),
    ("kv_heads", ("tensor",)),
    ("joined_kv", ("tensor",)),
    ("kv", ()),
    ("relpos_buckets", ()),
    ("layers", ()),
)
"""Parameters lie on fsdp by their embed dimension and on tensor by the other; activations on data
and fsdp by rows and on sequence by length, but for what attention reads (kv_length). A mesh axis of
size 1 shards nothing, so these serve every shape of mesh."""


@dataclasses.dataclass(frozen=True)
class LogicalAxisRules:
    """Rules on a mesh.

    A dimension that the mesh axes of its rule do not divide stays whole; model-info.txt and
    `archobj train --dry_run` say how much of the parameters that leaves unsharded.

    Attributes:
      mesh: of devices.
      rules: mesh axes of each logical axis.
      largest_unsharded_bytes: see `Partitioner`; `training.unsharded` checks it.
    """

    mesh: Mesh | AbstractMesh
    rules: Mapping[str, MeshAxes]
    largest_unsharded_bytes: int

    def spec(self, shape: Sequence[int], axes: Sequence[str | None]) -> PartitionSpec:
        """The partition of an array of `shape` with logical `axes`; None is not partitioned.

        Raises:
          UserError: no rule covers a logical axis.
        """
        used: set[str] = set()
        dimensions: list[MeshAxes | None] = []
        for size, axis in zip(shape, axes, strict=True):
            if axis is None:
                dimensions.append(None)
                continue
            if axis not in self.rules:
                raise UserError(
                    f"No logical-axis rule covers the axis '{axis}'."
                    + did_you_mean(axis, self.rules)
                )
            mesh_axes = tuple(
                a for a in self.rules[axis] if self.mesh.shape[a] > 1 and a not in used
            )
            if mesh_axes and size % math.prod(self.mesh.shape[a] for a in mesh_axes) == 0:
                used.update(mesh_axes)
                dimensions.append(mesh_axes)
            else:
                dimensions.append(None)
        return PartitionSpec(*dimensions)

    def shards(self, axis: str) -> int:
        """Parts that a dimension of the logical `axis` falls into, if they divide it."""
        return math.prod(self.mesh.shape[each] for each in self.rules[axis])

    def sharding(self, shape: Sequence[int], axes: Sequence[str | None]) -> NamedSharding:
        """`spec` on the mesh."""
        return NamedSharding(self.mesh, self.spec(shape, axes))


_active: contextvars.ContextVar[LogicalAxisRules | None] = contextvars.ContextVar(
    "logical_axis_rules", default=None
)


@contextlib.contextmanager
def activated(rules: LogicalAxisRules) -> Iterator[None]:
    """While a function is traced inside, `constrain` shards its activations by `rules`."""
    token = _active.set(rules)
    try:
        yield
    finally:
        _active.reset(token)


def constrain(x: jax.Array, axes: Sequence[str | None]) -> jax.Array:
    """Constrains an activation with logical `axes` by the active rules; `x` itself without any.

    An abstract array is given the sharding.
    """
    rules = _active.get()
    if isinstance(x, jax.ShapeDtypeStruct) and rules is not None:
        sharding = rules.sharding(x.shape, axes)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # type: ignore[return-value]
    if rules is None or rules.mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, rules.sharding(x.shape, axes))


def gathered(kernel: jax.Array, axes: Sequence[str | None]) -> jax.Array:
    """A kernel with logical `axes`, by the active rules whole along the mesh axes of rows.

    Rows stay where they are and parameters come to them, in the dtype of `kernel`. Left to itself
    XLA may gather the float32 parameter.
    """
    rules = _active.get()
    if rules is None or rules.mesh.size == 1:
        return kernel
    of_rows = set(rules.rules["batch"])
    spec = rules.spec(kernel.shape, axes)
    each = [(lies,) if isinstance(lies, str) else lies or () for lies in spec]
    kept = [tuple(axis for axis in lies if axis not in of_rows) for lies in each]
    whole = NamedSharding(rules.mesh, PartitionSpec(*kept))
    return jax.lax.with_sharding_constraint(kernel, whole)


def shard_shape(shape: Sequence[int], axes: Sequence[str | None]) -> tuple[int, ...]:
    """The part of an activation that each device holds by the active rules."""
    rules = _active.get()
    if rules is None:
        return tuple(shape)
    return rules.sharding(shape, axes).shard_shape(tuple(shape))


def cut_along(size: int, axis: str) -> MeshAxes:
    """The mesh axes that a dimension of `size` and logical `axis` lies on by the active rules."""
    rules = _active.get()
    if rules is None:
        return ()
    lies = rules.spec((size,), (axis,))[0]
    return (lies,) if isinstance(lies, str) else lies or ()


def row_shards(rows: int) -> int:
    """Into how many parts, of devices of their own, the active rules cut so many rows."""
    return rows // shard_shape((rows,), ("batch",))[0]


def mapped(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    axes: Sequence[Sequence[str | None]],
    *,
    results: Sequence[tuple[Sequence[int], Sequence[str | None]]],
) -> Callable[..., Any]:
    """`function` of the part of its arguments that each device holds by the active rules.

    Nothing is exchanged but by `function`: it returns the part of the results that a device holds.

    Args:
      function: of several arguments, returning a tuple of arrays.
      arguments: trees of arrays that it is going to be called with.
      axes: for each argument the logical axes of its arrays.
      results: for each result its (whole) shape and logical axes.
    """
    rules = _active.get()
    if rules is None or rules.mesh.size == 1:
        return function
    inward = tuple(
        jax.tree.map(lambda x, axes=axes: rules.spec(x.shape, axes), argument)
        for argument, axes in zip(arguments, axes, strict=True)
    )
    outward = tuple(rules.spec(shape, axes) for shape, axes in results)
    return jax.shard_map(
        function, mesh=rules.mesh, in_specs=inward, out_specs=outward, check_vma=False
    )
