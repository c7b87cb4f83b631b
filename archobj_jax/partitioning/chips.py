"""What a device can do, by its data sheet: the one table of such figures."""

import dataclasses
from collections.abc import Mapping

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device of a kind.

    Attributes:
      peak_flops: dense bfloat16 operations a second.
      hbm_bytes: memory that a program may use, which is less than is built in.
      hbm_bandwidth: bytes a second.
      ici_link_bandwidth: bytes a second through one link to a neighbour, one way; 0 where the
        network is not planned for (GPUs).
      ring_multiple: a dimension of the torus closes to a ring if its size is a multiple of this.
      dcn_bandwidth: bytes a second for each chip between slices.
      clock: cycles a second of a TensorCore; 0 where it is not planned for.
      topology_prefix: what the compiler calls the generation in names of topologies; "" for none.
    """

    peak_flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_link_bandwidth: float = 0.0
    ring_multiple: int = 1
    dcn_bandwidth: float = 0.0
    clock: float = 0.0
    topology_prefix: str = ""


CHIPS: Mapping[str, Chip] = {
    "TPU v4": Chip(275e12, 30.75 * GIB, 1.2e12, 4.5e10, 4, 6.25e9, 1.05e9, "v4"),
    "TPU v5": Chip(459e12, 95.73 * GIB, 2.765e12, 9.0e10, 4, 6.25e9, 1.75e9, "v5p"),
    "TPU v5p": Chip(459e12, 95.73 * GIB, 2.765e12, 9.0e10, 4, 6.25e9, 1.75e9),
    "TPU v5 lite": Chip(197e12, 15.75 * GIB, 8.1e11, 4.5e10, 16, 3.125e9, 1.5e9, "v5e"),
    "TPU v6 lite": Chip(918e12, 31.24 * GIB, 1.6e12, 9.0e10, 16, 12.5e9, 1.75e9, "v6e"),
    "NVIDIA A100-SXM4-80GB": Chip(312e12, 80e9, 2.039e12),
    "NVIDIA H100 80GB HBM3": Chip(989e12, 80e9, 3.35e12),
    "NVIDIA H200": Chip(989e12, 141e9, 4.8e12),
}
"""By `jax.Device.device_kind` (of a v5p it is "TPU v5").

Peak, HBM bandwidth and DCN bandwidth are those of the vendors' data sheets
(docs.cloud.google.com/tpu/docs/v4, v5p, v5e, v6e; NVIDIA's A100, H100 SXM and H200). HBM of a TPU
is what libtpu 0.0.52 leaves to a program: its error for one too large names it. A link's bandwidth
is that of "How to Scale Your Model" (Austin et al. 2025, jax-ml.github.io/scaling-book/tpus), a
tenth below a sixth (in two dimensions a quarter) of the data sheet's figure for a chip. Clocks
follow from the peak and the size of the matrix units (v4: Jouppi et al. 2023, arXiv 2304.01433).
"""
