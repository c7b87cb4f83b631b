"""The placement axis: a mesh of devices, and the rules that lay arrays on it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.partitioning.arrangement import Box, arranged
from archobj_jax.partitioning.rules import STANDARD_RULES, LogicalAxisRules, MeshAxes

MESH_AXES = ("data", "fsdp", "sequence", "tensor")


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """Shape of the mesh, and logical-axis rules.

    One of the axes may be -1, which takes all devices that the others leave.

    Attributes:
      data: devices that hold copies of the model, each with rows of its own. Several slices of
        TPUs lie along it, and no other axis crosses them.
      fsdp: devices over which rows and the embed dimension of parameters are both sharded.
      sequence: devices over which the length of activations is sharded; keys and values are
        gathered. Parameters lie whole along it.
      tensor: devices over which heads, feed-forward and vocabulary are sharded; None is what the
        next two say, or 1.
      num_partitions: T5X's name of `tensor`.
      model_parallel_submesh: T5X's way to say where these devices are: the box of x, y, z and
        cores of the torus that they take. It holds on TPUs; elsewhere its product is their number.
      rules: (logical axis, mesh axes) pairs that replace those of the same axis in
        `rules.STANDARD_RULES`; mesh axes are a tuple, or as T5X has them one name or None.
      largest_unsharded_bytes: a parameter or an array of the optimizer's state that is larger must
        be sharded by some rule, if `fsdp` or `tensor` are more than 1.

    Raises:
      UserError: an axis is below 1, two are -1, or the names of `tensor` contradict each other.
    """

    data: int = -1
    fsdp: int = 1
    sequence: int = 1
    tensor: int | None = None
    num_partitions: int | None = None
    model_parallel_submesh: Box | None = None
    rules: Sequence[tuple[str, MeshAxes | str | None]] = ()
    largest_unsharded_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensor", self._tensor())
        sizes = self._sizes()
        if wrong := [axis for axis, size in sizes.items() if size < 1 and size != -1]:
            raise UserError(
                f"Partitioner.{wrong[0]} = {sizes[wrong[0]]}: must be at least 1, or -1 for what "
                "the other axes leave."
            )
        if len(open_axes := self._open()) > 1:
            raise UserError(
                f"Partitioner: {' and '.join(open_axes)} are both -1; one axis alone can take what "
                f"the others leave (data is -1 unless it is given: --gin.Partitioner.data=1)."
            )

    def _tensor(self) -> int:
        """The size of the tensor axis, by whichever of its names it was given."""
        box = self.model_parallel_submesh
        if box is not None and (len(box) != 4 or min(box) < 1):
            raise UserError(
                f"Partitioner.model_parallel_submesh = {box}: must be four numbers of at least 1: "
                "chips along x, y and z, and cores."
            )
        names = {
            "tensor": self.tensor,
            "num_partitions": self.num_partitions,
            "model_parallel_submesh": None if box is None else math.prod(box),
        }
        given = {name: size for name, size in names.items() if size is not None}
        if len(set(given.values())) > 1:
            told = " and ".join(
                f"Partitioner.{name} = {getattr(self, name)}"
                + (f" ({size} devices)" if name == "model_parallel_submesh" else "")
                for name, size in given.items()
            )
            raise UserError(f"{told} contradict each other: all are the tensor axis; give one.")
        return next(iter(given.values()), 1)

    def mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over `devices` (default: all).

        Raises:
          UserError: the axes do not multiply to the number of devices, `data` not to slices, or
            boxes do not tile the torus.
        """
        devices = jax.devices() if devices is None else devices
        shape = self._shape(len(devices))
        if min(shape) < 1 or math.prod(shape) != len(devices):
            sizes = ", ".join(f"{axis}={size}" for axis, size in self._sizes().items())
            taken = "".join(f" ({axis}=-1 takes what the others leave)" for axis in self._open())
            raise UserError(
                f"Partitioner: a mesh of {sizes} does not fill the {len(devices)} devices there "
                f"are; their product must be that number{taken}. An experiment may hold the layout "
                "of another slice: --gin_file=partitioning/fsdp.gin after it fits any number."
            )
        placed = arranged(shape, devices, self.model_parallel_submesh)
        return Mesh(placed, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))

    def planned_mesh(self) -> Mesh | AbstractMesh:
        """The mesh if the devices here fill it, else one of its shape without devices."""
        shape = self._shape(len(jax.devices()))
        if math.prod(shape) == len(jax.devices()):
            return self.mesh()
        automatic = (AxisType.Auto,) * len(MESH_AXES)
        return AbstractMesh(tuple(max(size, 1) for size in shape), MESH_AXES, axis_types=automatic)

    def _sizes(self) -> dict[str, int]:
        return {axis: getattr(self, axis) for axis in MESH_AXES}

    def _open(self) -> list[str]:
        return [axis for axis, size in self._sizes().items() if size == -1]

    def _shape(self, devices: int) -> tuple[int, ...]:
        sizes = self._sizes().values()
        rest = devices // math.prod(size for size in sizes if size != -1)
        return tuple(rest if size == -1 else size for size in sizes)

    def logical_axis_rules(self, mesh: Mesh | AbstractMesh) -> LogicalAxisRules:
        """The rules on `mesh`.

        Raises:
          UserError: a rule is for a logical axis, or names a mesh axis, that does not exist.
        """
        standard = dict(STANDARD_RULES)
        own = {axis: _mesh_axes(laid_on) for axis, laid_on in self.rules}
        for axis, mesh_axes in own.items():
            if axis not in standard:
                near = did_you_mean(axis, standard) or f" They are {', '.join(standard)}."
                raise UserError(
                    f"Partitioner.rules: there is no logical axis '{axis}', so its rule would do "
                    f"nothing.{near}"
                )
            for unknown in (each for each in mesh_axes if each not in MESH_AXES):
                near = " T5X's 'model' is 'tensor'." if unknown == "model" else ""
                raise UserError(
                    f"Partitioner.rules: '{axis}' is laid on '{unknown}'; mesh axes are "
                    f"{', '.join(MESH_AXES)}.{near or did_you_mean(unknown, MESH_AXES)}"
                )
        return LogicalAxisRules(mesh, standard | own, self.largest_unsharded_bytes)


def _mesh_axes(laid_on: MeshAxes | str | None) -> MeshAxes:
    if laid_on is None:
        return ()
    return (laid_on,) if isinstance(laid_on, str) else tuple(laid_on)


def row_sharding(rules: LogicalAxisRules, batch_size: int) -> NamedSharding:
    """How the arrays [B, L] of a batch of `batch_size` rows lie, whose lengths all divide.

    Raises:
      UserError: the rows do not divide over the devices that hold different ones.
    """
    shards = rules.shards("batch")
    if batch_size % shards:
        raise UserError(
            f"BATCH_SIZE = {batch_size} does not divide over the {shards} devices of the mesh axes "
            f"{rules.rules['batch']}; use a multiple of {shards}, or a smaller mesh."
        )
    return rules.sharding((batch_size, rules.shards("length")), ("batch", "length"))


def check_lengths(rules: LogicalAxisRules, lengths: Mapping[str, int]) -> None:
    """Checks that arrays [B, L] of these lengths, by name, divide over the mesh.

    Raises:
      UserError: one does not.
    """
    shards = rules.shards("length")
    for name, length in lengths.items():
        if length % shards:
            raise UserError(
                f"TASK_FEATURE_LENGTHS: {name} have length {length}, which does not divide over "
                f"the {shards} devices of the mesh axes {rules.rules['length']}; use lengths that "
                f"make a multiple of {shards}, or a smaller Partitioner.sequence."
            )


def local_rows(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    """Which rows of a global batch the devices of this process hold, ascending."""
    rows = NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(sharding.spec[0]))
    indices = rows.addressable_devices_indices_map((batch_size,)).values()
    held = [np.arange(batch_size)[index[0]] for index in indices if index is not None]
    return np.unique(np.concatenate(held))
