"""Which device stands where in a mesh: neighbours along its last axes, slices along its first."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils

from archobj_jax.errors import UserError

Box = tuple[int, int, int, int]
"""Chips along x, y and z of the torus, and cores of a chip that are devices of their own."""


def arranged(
    shape: Sequence[int], devices: Sequence[jax.Device], box: Box | None = None
) -> np.ndarray:
    """Devices in the shape of a mesh.

    Args:
      shape: sizes of its axes, the one that exchanges most last. Slices divide the first among
        them, so that no other axis goes over the data-centre network.
      devices: as many as that.
      box: of TPUs, what the last axis takes; None lets its size alone decide.

    Raises:
      UserError: an axis other than the first would cross slices, or boxes do not tile the torus.
    """
    slices = _slices(devices)
    if shape[0] % len(slices):
        raise UserError(
            f"Partitioner.data = {shape[0]}: the {len(slices)} slices divide the data axis among "
            f"them, so it must be a multiple of {len(slices)} (the other axes stay within a slice "
            f"of {len(slices[0])} devices, and multiply to a divisor of that)."
        )
    within = (shape[0] // len(slices), *shape[1:])
    if box is not None and devices[0].platform == "tpu":
        return np.concatenate([_of_boxes(within, each, box) for each in slices])

    def near(**options: bool) -> np.ndarray:
        if len(slices) == 1:
            return mesh_utils.create_device_mesh(shape, devices, **options)
        between = (len(slices), *[1] * len(within[1:]))
        return mesh_utils.create_hybrid_device_mesh(within, between, devices, **options)

    try:
        return near()
    except NotImplementedError:  # An axis of the mesh is a part of an axis of the torus.
        return near(allow_split_physical_axes=True)


def slice_count(devices: Sequence[jax.Device]) -> int:
    """How many slices of TPUs the devices are of; 1 of what is no TPU."""
    return len(_slices(devices))


def _slices(devices: Sequence[jax.Device]) -> list[list[jax.Device]]:
    # A GPU's slice_index counts hosts, which every axis may well cross.
    if devices[0].platform != "tpu":
        return [list(devices)]
    of_slice: dict[int, list[jax.Device]] = {}
    for device in devices:
        of_slice.setdefault(getattr(device, "slice_index", 0) or 0, []).append(device)
    return [of_slice[index] for index in sorted(of_slice)]


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """A box of a torus of boxes, as `mesh_utils` reads devices."""

    coords: tuple[int, int, int]
    devices: np.ndarray
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "box"


def _of_boxes(shape: Sequence[int], devices: Sequence[jax.Device], box: Box) -> np.ndarray:
    """A slice in the shape of the mesh, each row along the last axis one box of the torus."""
    torus = _torus(devices)
    if any(size % part for size, part in zip(torus.shape, box, strict=True)):
        raise UserError(
            f"Partitioner.model_parallel_submesh = {box} does not tile the slice, which has "
            f"{' x '.join(map(str, torus.shape[:3]))} chips of {torus.shape[3]} cores (megacore "
            "counts as one); each number must divide the one at its place."
        )
    counts = [size // part for size, part in zip(torus.shape, box, strict=True)]
    places: list[Any] = []
    for x, y, z, core in itertools.product(*map(range, counts)):
        corner = zip((x, y, z, core), box, strict=True)
        inside = torus[tuple(slice(at * part, (at + 1) * part) for at, part in corner)]
        places.append(_Place((x, y, z * counts[3] + core), inside.flatten()))
    outer = tuple(shape[:-1])
    grid = mesh_utils.create_device_mesh(outer, places, allow_split_physical_axes=True)
    return np.stack([place.devices for place in grid.flat]).reshape(*outer, math.prod(box))


def _torus(devices: Sequence[Any]) -> np.ndarray:
    """The devices of a slice by x, y, z and core."""
    places = np.array([(*device.coords, device.core_on_chip) for device in devices])
    places -= places.min(axis=0)
    torus = np.empty(places.max(axis=0) + 1, dtype=object)
    for place, device in zip(places, devices, strict=True):
        torus[tuple(place)] = device
    return torus
