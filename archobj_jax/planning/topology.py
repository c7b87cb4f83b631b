"""The chips of a TPU topology, without a TPU: what libtpu's compiler needs to know of them."""

import dataclasses
import importlib.util
import os
from typing import Any

import numpy as np

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.native_messages import held_back
from archobj_jax.partitioning.chips import CHIPS, Chip
from archobj_jax.partitioning.slice_sizes import check_type, topology_of_type, usual_topologies

GENERATIONS = {chip.topology_prefix: kind for kind, chip in CHIPS.items() if chip.topology_prefix}


@dataclasses.dataclass(frozen=True, eq=False)
class Topology:
    """Chips that are compiled for.

    Attributes:
      name: `v4:4x4x4`.
      slices: how many of them, connected over the data-centre network.
      devices: one a chip, slice by slice; they compile and hold nothing.
      chip: what each can do.
      shape: chips along each dimension of a slice's torus.
    """

    name: str
    slices: int
    devices: tuple[Any, ...]
    chip: Chip
    shape: tuple[int, ...]

    def place(self, device: Any) -> np.ndarray:
        """Coordinates of a chip: its slice, then those within the slice."""
        return np.array([getattr(device, "slice_index", 0) or 0, *device.coords])


def topology_of(name: str, slices: int = 1) -> Topology:
    """The topology `name`, GENERATION:AxBxC in chips or an accelerator type, so many times.

    Raises:
      UserError: libtpu is not installed, or there is no such topology.
    """
    if ":" not in name and topology_of_type(name) is None:
        check_type("topology", name)
    name = topology_of_type(name) or name
    generation, _, shape = name.partition(":")
    if generation not in GENERATIONS:
        raise UserError(_unknown(name, "expected GENERATION:AxBxC in chips, or a type like v4-128"))
    if slices < 1:
        raise UserError(f"--slices={slices}: must be at least 1.")
    chip = CHIPS[GENERATIONS[generation]]
    sizes = shape.split("x")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(_unknown(name, "expected GENERATION:AxBxC in chips"))
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "planning compiles with the TPU's own compiler, which is not installed: "
            "pip install 'archobj_jax[plan]', or pip install libtpu."
        )
    # No metadata server is asked what this machine is; a second process may compile meanwhile.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    import jax
    from jax.experimental import topologies

    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    if generation == "v4":  # The two cores of a chip as one device, as Cloud TPU has them.
        options["chip_config_name"] = "megacore"
    with held_back():  # what libtpu says of a topology is told by the error, once
        try:
            made = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
        except jax.errors.JaxRuntimeError as error:
            made, why = None, str(error).splitlines()[0]
    if made is None:
        raise UserError(_unknown(name, why))
    return Topology(name, slices, tuple(made.devices), chip, tuple(map(int, sizes)))


def _unknown(name: str, why: str) -> str:
    usual = usual_topologies()
    hint = did_you_mean(name, usual) or f" There are, among others: {', '.join(usual)}."
    return f"--topology={name}: there is no such topology ({why}).{hint}"
