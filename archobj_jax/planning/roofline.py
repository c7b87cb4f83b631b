"""How long a compiled step takes at least: computation, HBM, and the two networks.

A kernel takes what is longer, its operations at the chip's peak or its bytes over HBM. A collective
along a torus takes its bytes over the links in use, by the costs of "How to Scale Your Model"
(Austin et al. 2025, jax-ml.github.io/scaling-book/sharding). Left out are the padding of matrix
units and layouts, vector and scalar work, latencies, and the host; the compiler's own cost model
knows the former, and is given beside it. A custom call costs nothing here, and of a conditional all
branches are counted, as if each ran.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jax.sharding import Mesh

from archobj_jax.partitioning.chips import Chip
from archobj_jax.planning.collectives import Collective
from archobj_jax.planning.topology import Topology
from archobj_jax.planning.work import Kernel


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step, on every chip.

    Attributes:
      compute: all matrix products at peak, what is recomputed included.
      hbm: all bytes over HBM.
      kernels: kernel by kernel, the longer of the two; what another core does beside is left out.
      modelled: kernel by kernel, what the compiler's own cost model says: padding, vector work and
        latencies included.
      ici: all collectives within slices.
      exposed_ici: those of them that the compiler has scheduled with nothing beside them.
      dcn: all collectives between slices.
    """

    compute: float
    hbm: float
    kernels: float
    modelled: float
    ici: float
    exposed_ici: float
    dcn: float

    @property
    def bound(self) -> float:
        """If all overlapped: the longest of computation, HBM, ICI and DCN."""
        return max(self._resources.values())

    @property
    def bound_by(self) -> str:
        """What takes longest: "computation", "HBM", "ICI" or "DCN"."""
        return max(self._resources, key=self._resources.__getitem__)

    @property
    def _resources(self) -> dict[str, float]:
        return {"computation": self.compute, "HBM": self.hbm, "ICI": self.ici, "DCN": self.dcn}

    @property
    def step(self) -> float:
        """What is predicted: kernels one after another, and collectives that nothing hides.

        What may overlap is taken to, the DCN's share too.
        """
        return self._with_networks(self.kernels)

    @property
    def modelled_step(self) -> float:
        """The same with the compiler's figures for kernels."""
        return self._with_networks(self.modelled)

    def _with_networks(self, kernels: float) -> float:
        return max(kernels, self.ici - self.exposed_ici, self.dcn) + self.exposed_ici


def roofline(
    kernels: Sequence[Kernel], collectives: Sequence[Collective], topology: Topology, mesh: Mesh
) -> Roofline:
    """The roofline of what a step runs on `topology`, laid out as `mesh`."""
    chip = topology.chip
    in_turn = [kernel for kernel in kernels if not kernel.hidden]
    within = first_slice(mesh, topology.slices)
    places = [topology.place(device)[1:] for device in within.flat]
    ici = exposed = dcn = 0.0
    for each in collectives:
        if each.between_slices:
            dcn += each.times * _between(each, topology)
            continue
        seconds = each.times * _within(each, [places[i] for i in each.group], topology)
        ici += seconds
        exposed += 0.0 if each.asynchronous else seconds
    return Roofline(
        compute=sum(k.times * k.flops for k in kernels) / chip.peak_flops,
        hbm=sum(k.times * k.bytes for k in kernels) / chip.hbm_bandwidth,
        kernels=sum(k.times * kernel_seconds(k, chip) for k in in_turn),
        modelled=sum(k.times * k.cycles for k in in_turn) / chip.clock,
        ici=ici,
        exposed_ici=exposed,
        dcn=dcn,
    )


def first_slice(mesh: Mesh, slices: int) -> np.ndarray:
    """The devices of the first slice, in the shape of the mesh within it."""
    return mesh.devices[: mesh.devices.shape[0] // slices]


def kernel_seconds(kernel: Kernel, chip: Chip) -> float:
    """One run: the longer of its operations and its bytes."""
    return max(kernel.flops / chip.peak_flops, kernel.bytes / chip.hbm_bandwidth)


def _between(collective: Collective, topology: Topology) -> float:
    """An all-reduce between s slices sends and receives 2 (s - 1) / s of its bytes."""
    share = (topology.slices - 1) / topology.slices
    times = 2.0 if collective.kind == "all-reduce" else 1.0
    return times * share * collective.payload / topology.chip.dcn_bandwidth


def _within(collective: Collective, places: Sequence[np.ndarray], topology: Topology) -> float:
    chip, payload = topology.chip, collective.payload
    if collective.kind == "collective-permute":
        return payload * _hops(places[0], places[1], topology) / chip.ici_link_bandwidth
    size = len(places)
    bandwidth = chip.ici_link_bandwidth * links(places, topology)
    if collective.kind == "all-to-all":
        # A chip's payload is one of `size` parts; on a ring each goes a quarter of the way round.
        return payload * size / 4.0 / bandwidth
    passes = 2.0 if collective.kind == "all-reduce" else 1.0
    return passes * payload * (size - 1) / size / bandwidth


def links(places: Sequence[np.ndarray], topology: Topology) -> int:
    """Links of a chip that a collective among chips at `places` uses: along each dimension of the
    torus over which they lie, two if it closes to a ring there, else one."""
    distinct = [len(set(column)) for column in np.stack(places).T.tolist()]
    if math.prod(distinct) != len(places):  # No box: a path through them.
        return 1
    closed: Mapping[int, bool] = {
        axis: count == topology.shape[axis] and count % topology.chip.ring_multiple == 0
        for axis, count in enumerate(distinct)
        if count > 1
    }
    return sum(2 if ring else 1 for ring in closed.values())


def _hops(a: np.ndarray, b: np.ndarray, topology: Topology) -> int:
    """Links on the shortest way from one chip to another."""
    hops = 0
    for axis, size in enumerate(topology.shape):
        apart = abs(int(a[axis]) - int(b[axis]))
        ring = size % topology.chip.ring_multiple == 0
        hops += min(apart, size - apart) if ring else apart
    return max(1, hops)
