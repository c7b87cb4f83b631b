"""The networks that the inference benchmarks run: small enough for two cores."""

import jax

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training.state import Blueprint

NETWORK = NetworkConfig(
    vocab_size=8192,
    emb_dim=256,
    num_heads=4,
    head_dim=64,
    mlp_dim=512,
    num_decoder_layers=4,
    num_encoder_layers=4,
)
DESCRIPTION = "4 layers (encoder-decoder: 4 + 4), d_model 256, vocabulary 8192"


def on_one_device(architecture: Architecture) -> tuple[Blueprint, dict]:
    """A model with fresh parameters on the first device."""
    partitioner = Partitioner()
    rules = partitioner.logical_axis_rules(partitioner.mesh(jax.devices()[:1]))
    blueprint = Blueprint.of(architecture, rules)
    return blueprint, jax.jit(blueprint.fresh_params, static_argnums=0)(0)
