"""Where chips stand in a mesh, on topologies of TPUs that are not there."""

import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.partitioning.arrangement import slice_count
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning.topology import topology_of


def boxes(mesh) -> list[np.ndarray]:
    """The coordinates [devices, 3] of each tensor group."""
    groups = mesh.devices.reshape(-1, mesh.shape["tensor"])
    return [np.array([device.coords for device in group]) for group in groups]


@pytest.mark.parametrize("box", [(4, 1, 1, 1), (2, 2, 1, 1), (1, 2, 2, 1), (1, 1, 4, 1)])
@pytest.mark.parametrize(
    "rest", [{"data": -1}, {"data": 1, "fsdp": -1}, {"fsdp": 2, "sequence": 2}]
)
def test_the_tensor_axis_takes_the_box_that_is_asked_for(box, rest):
    devices = topology_of("v4:4x4x4").devices
    mesh = Partitioner(model_parallel_submesh=box, **rest).mesh(devices)
    assert mesh.shape["tensor"] == 4
    assert len({d.id for d in mesh.devices.flat}) == 64
    for group in boxes(mesh):
        corner = group.min(axis=0)
        np.testing.assert_array_equal(group.max(axis=0) - corner + 1, box[:3])
        np.testing.assert_array_equal(corner % box[:3], 0)


def test_the_axes_beside_the_box_take_neighbours_too():
    devices = topology_of("v4:4x4x4").devices
    mesh = Partitioner(fsdp=4, model_parallel_submesh=(4, 1, 1, 1)).mesh(devices)
    for rows in mesh.devices.reshape(-1, 4, 4):  # [fsdp, tensor] is a plane of the torus.
        coords = np.array([device.coords for device in rows.flat])
        assert sorted(np.ptp(coords, axis=0) + 1) == [1, 4, 4]


@pytest.mark.parametrize("box", [(8, 1, 1, 1), (2, 1, 1, 2)])
def test_a_box_that_does_not_tile_the_torus_is_refused(box):
    with pytest.raises(UserError, match="does not tile the slice, which has 4 x 4 x 4 chips of 1"):
        Partitioner(model_parallel_submesh=box).mesh(topology_of("v4:4x4x4").devices)


@pytest.mark.parametrize(
    "axes",
    [
        {"fsdp": 8},
        {"fsdp": 2, "tensor": 4},
        {"fsdp": 2, "sequence": 2, "tensor": 2},
        {"data": 4, "fsdp": -1, "model_parallel_submesh": (2, 1, 1, 1)},
    ],
)
def test_of_several_slices_each_has_its_part_of_the_data_axis(axes):
    two = topology_of("v4:2x2x2", 2)
    assert slice_count(two.devices) == 2
    mesh = Partitioner(**axes).mesh(two.devices)
    data = mesh.shape["data"]
    assert data % 2 == 0
    slices = [{d.slice_index for d in mesh.devices[index].flat} for index in range(data)]
    assert slices == [{0}] * (data // 2) + [{1}] * (data // 2)


@pytest.mark.parametrize(
    "axes", [{"data": 1, "fsdp": -1}, {"data": 1, "fsdp": 2, "tensor": 8}, {"fsdp": 16}]
)
def test_a_mesh_that_crosses_slices_by_another_axis_is_refused(axes):
    two = topology_of("v4:2x2x2", 2)
    message = "Partitioner.data = 1: the 2 slices.*multiple of 2.*slice of 8 devices"
    with pytest.raises(UserError, match=message):
        Partitioner(**axes).mesh(two.devices)


def test_an_axis_of_the_mesh_may_be_a_part_of_one_of_the_torus():
    topology = topology_of("v4:4x4x4")
    mesh = Partitioner(fsdp=32, tensor=2).mesh(topology.devices)
    assert mesh.devices.shape == (1, 32, 1, 2)
