"""A cost model of a layout: rough, and quick where the compiler takes minutes.

It orders layouts and drops those that cannot fit; what is claimed of a layout, the compiler says.
Formulas are those of "How to Scale Your Model" (Austin et al. 2025, jax-ml.github.io/scaling-book).
"""

import dataclasses

import numpy as np

from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.planning.roofline import links
from archobj_jax.planning.topology import Topology
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.state import per_device_bytes

_FLOAT, _HALF = 4, 2
_LANES = 128
_SAVED_OF_DOTS = {"none": 1.6, "minimal": 1.0, "attention": 0.2, "full": 0.0}
"""What the backward pass finds of a layer's matrix products, beside the layer's input."""
_RECOMPUTED = {"none": 0.0, "minimal": 0.05, "attention": 0.7, "full": 1.0}
"""Share of the forward pass that is done again."""
_HOLDS_PROBABILITIES = {"xla": True, "chunked": False}
"""Whether an attention kernel ever holds all probabilities."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Estimates for one layout.

    Attributes:
      hbm: bytes a chip.
      seconds: of a step.
    """

    hbm: float
    seconds: float


def cost(step: PreparedStep, topology: Topology, *, remat: str, microbatches: int) -> Cost:
    """What `step`, on the mesh that it lies on, would take of `topology`.

    Args:
      step: its own remat policy and microbatches do not matter.
      topology: what it lies on.
      remat: a remat policy.
      microbatches: how many.
    """
    mesh = step.blueprint.rules.mesh.shape
    network = dataclasses.replace(step.blueprint.architecture.network, remat_policy=remat)  # type: ignore[arg-type]
    tokens = step.tokens / (mesh["data"] * mesh["fsdp"] * mesh["sequence"])
    activations = _activations(step, network, tokens / microbatches, mesh["tensor"])
    return Cost(
        hbm=_state(step) + activations,
        seconds=_compute(step, network, topology)
        + _exchange(step, network, topology, tokens, microbatches),
    )


def _state(step: PreparedStep) -> float:
    """Parameters and as much again for gradients, and what the optimizer keeps."""
    return 2.0 * per_device_bytes(step.state.params) + per_device_bytes(step.state.opt_state)


def _layers(network: NetworkConfig, encoder: bool) -> int:
    return network.num_decoder_layers + (network.num_encoder_layers if encoder else 0)


def _activations(step: PreparedStep, network: NetworkConfig, tokens: float, tensor: int) -> float:
    encoder = "encoder_input_tokens" in step.batch
    width = _HALF if network.dtype == "bfloat16" else _FLOAT
    heads = network.num_heads * network.head_dim
    ups = len(network.mlp_activations)
    dots = (heads + 2 * network.kv_heads * network.head_dim + ups * network.mlp_dim) / tensor
    dots += 2 * network.emb_dim
    saved = network.emb_dim + _SAVED_OF_DOTS[network.remat_policy] * dots
    layers = _layers(network, encoder) / (2 if encoder else 1)  # each token in one stack
    longest = max(x.shape[1] for name, x in step.batch.items() if name.endswith("_input_tokens"))
    whole = _HOLDS_PROBABILITIES[network.attention_kernel]
    probabilities = whole * _FLOAT * longest * network.num_heads / tensor
    # Of the layer at work: probabilities, their gradients and those of the logits, the products.
    working = 3 * probabilities + 4 * width * dots
    kept = probabilities if network.remat_policy == "none" else 0.0
    return tokens * ((width * saved + kept) * layers + working)


def _compute(step: PreparedStep, network: NetworkConfig, topology: Topology) -> float:
    again = 1.0 + _RECOMPUTED[network.remat_policy] / 3.0
    return step.flops() * again / len(topology.devices) / topology.chip.peak_flops


def _exchange(
    step: PreparedStep, network: NetworkConfig, topology: Topology, tokens: float, microbatches: int
) -> float:
    """Parameters gathered twice a microbatch and gradients scattered once, over fsdp; activations
    summed four times a layer, over tensor; gradients summed once, over data and over sequence; over
    sequence too keys and values gathered, as often as they are made, and their gradients scattered.
    """
    rules = step.blueprint.rules
    mesh, parameters = rules.mesh, step.blueprint.parameter_count
    encoder = "encoder_input_tokens" in step.batch
    layers = _layers(network, encoder) / (2 if encoder else 1)
    size = mesh.shape
    # A shard narrower than a tile is gathered, and its gradient scattered, by an all-reduce.
    narrow = 2.0 if network.emb_dim // size["fsdp"] < _LANES else 1.0
    once = narrow * (2 * _HALF + _HALF) * parameters / size["tensor"]
    # Parameters lie whole along both axes, so the gradients are summed over both.
    summed = 2.0 * _FLOAT * parameters / (size["fsdp"] * size["tensor"])
    keys_values = 2 * network.kv_heads * network.head_dim / size["tensor"]
    passes = 2.0 + _RECOMPUTED[network.remat_policy]
    moved = {
        "fsdp": microbatches * once,
        "tensor": 2 * 4 * _HALF * tokens * network.emb_dim * layers,
        "sequence": summed + passes * _HALF * tokens * size["sequence"] * keys_values * layers,
        "data": summed,
    }
    seconds = 0.0
    for index, axis in enumerate(mesh.axis_names):
        if size[axis] == 1:
            continue
        devices = np.moveaxis(mesh.devices, index, 0).reshape(size[axis], -1)[:, 0]
        places = [topology.place(device) for device in devices]
        bandwidth = topology.chip.dcn_bandwidth
        if len({place[0] for place in places}) == 1:
            bandwidth = topology.chip.ici_link_bandwidth * links([p[1:] for p in places], topology)
        seconds += moved[axis] / bandwidth
    return seconds
