"""The placement axis: a mesh of devices, and the rules that lay arrays on it."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding

from archobj_jax.errors import UserError
from archobj_jax.partitioning.rules import STANDARD_RULES, LogicalAxisRules, MeshAxes

MESH_AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """Shape of the mesh, and logical-axis rules.

    Attributes:
      data: devices that hold copies of the model, each with rows of its own; -1 takes all that the
        other axes leave. Several slices of TPUs lie along it, and no other axis crosses them.
      fsdp: devices over which rows and the embed dimension of parameters are both sharded.
      tensor: devices over which heads, feed-forward and vocabulary are sharded (T5X's
        `num_partitions`).
      rules: (logical axis, mesh axes) pairs that replace those of the same axis in
        `rules.STANDARD_RULES`.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    rules: Sequence[tuple[str, MeshAxes]] = ()

    def __post_init__(self) -> None:
        if min(self.fsdp, self.tensor) < 1 or (self.data < 1 and self.data != -1):
            raise UserError(
                f"Partitioner: data = {self.data}, fsdp = {self.fsdp} and tensor = {self.tensor} "
                "must be at least 1 (data may be -1)."
            )

    def mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over `devices` (default: all).

        Raises:
          UserError: the axes do not multiply to the number of devices, or `data` not to slices.
        """
        devices = jax.devices() if devices is None else devices
        shape = self._shape(len(devices))
        if min(shape) < 1 or math.prod(shape) != len(devices):
            raise UserError(
                f"Partitioner: a mesh of data={self.data}, fsdp={self.fsdp}, tensor={self.tensor} "
                f"does not fill the {len(devices)} devices there are; their product must be that "
                "number (data=-1 takes what the others leave)."
            )
        automatic = (AxisType.Auto,) * len(MESH_AXES)
        return Mesh(_arranged(shape, devices), MESH_AXES, axis_types=automatic)

    def planned_mesh(self) -> Mesh | AbstractMesh:
        """The mesh if the devices here fill it, else one of its shape without devices."""
        shape = self._shape(len(jax.devices()))
        if math.prod(shape) == len(jax.devices()):
            return self.mesh()
        automatic = (AxisType.Auto,) * len(MESH_AXES)
        return AbstractMesh(tuple(max(size, 1) for size in shape), MESH_AXES, axis_types=automatic)

    def _shape(self, devices: int) -> tuple[int, int, int]:
        data = devices // (self.fsdp * self.tensor) if self.data == -1 else self.data
        return data, self.fsdp, self.tensor

    def logical_axis_rules(self, mesh: Mesh | AbstractMesh) -> LogicalAxisRules:
        """The rules on `mesh`.

        Raises:
          UserError: a rule names a mesh axis that does not exist.
        """
        rules = dict(STANDARD_RULES) | {axis: tuple(mesh_axes) for axis, mesh_axes in self.rules}
        for axis, mesh_axes in rules.items():
            if unknown := set(mesh_axes) - set(MESH_AXES):
                raise UserError(
                    f"Partitioner.rules: '{axis}' is laid on {sorted(unknown)}; mesh axes are "
                    f"{', '.join(MESH_AXES)}."
                )
        return LogicalAxisRules(mesh=mesh, rules=rules)


def _arranged(shape: tuple[int, int, int], devices: Sequence[jax.Device]) -> np.ndarray:
    """Devices in the shape of the mesh: near each other along its last axes, slices along data."""
    # A GPU's slice_index counts hosts, which fsdp and tensor may well cross.
    slices = 1
    if devices[0].platform == "tpu":
        slices = len({getattr(device, "slice_index", 0) for device in devices})
    if shape[0] % slices:
        raise UserError(
            f"Partitioner.data = {shape[0]}: the {slices} slices divide the data axis among them, "
            f"so it must be a multiple of {slices}; fsdp and tensor stay within a slice."
        )
    within = (shape[0] // slices, *shape[1:])

    def arranged(**options: bool) -> np.ndarray:
        if slices == 1:
            return mesh_utils.create_device_mesh(shape, devices, **options)
        return mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1), devices, **options)

    try:
        return arranged()
    except NotImplementedError:  # An axis of the mesh is a part of an axis of the torus.
        return arranged(allow_split_physical_axes=True)


def row_sharding(rules: LogicalAxisRules, batch_size: int) -> NamedSharding:
    """How the arrays [B, L] of a batch of `batch_size` rows lie.

    Raises:
      UserError: the rows do not divide over the devices that hold different ones.
    """
    shards = math.prod(rules.mesh.shape[axis] for axis in rules.rules["batch"])
    if batch_size % shards:
        raise UserError(
            f"BATCH_SIZE = {batch_size} does not divide over the {shards} devices of the mesh axes "
            f"{rules.rules['batch']}; use a multiple of {shards}, or a smaller mesh."
        )
    return rules.sharding((batch_size, 1), ("batch", "length"))


def local_rows(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    """Which rows of a global batch the devices of this process hold, ascending."""
    indices = sharding.addressable_devices_indices_map((batch_size, 1)).values()
    rows = [np.arange(batch_size)[index[0]] for index in indices if index is not None]
    return np.unique(np.concatenate(rows))
