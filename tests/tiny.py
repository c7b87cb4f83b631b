"""Models, rows and blueprints that are small enough for a test."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from archobj_jax.architectures.architecture import (
    Architecture,
    CausalDecoder,
    EncoderDecoder,
    NonCausalDecoder,
)
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import insert, parameter_infos
from archobj_jax.objectives import Example, Lengths
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training.state import Blueprint

CD, ND, ED = CausalDecoder, NonCausalDecoder, EncoderDecoder
NETWORK = NetworkConfig(
    vocab_size=64,
    emb_dim=16,
    num_heads=4,
    head_dim=8,
    mlp_dim=32,
    num_decoder_layers=2,
    num_encoder_layers=2,
)
SYMBOLS = {"CD": CD, "ND": ND, "ED": ED}


@dataclasses.dataclass(frozen=True)
class TinyVocabulary:
    """What objectives read of a vocabulary: 64 ids, the last 16 sentinels, EOS 1."""

    vocab_size: int = 64
    extra_ids: int = 16
    eos_id: int = 1


def network(**changes: object) -> NetworkConfig:
    return dataclasses.replace(NETWORK, **changes)  # type: ignore[arg-type]


def blueprint(architecture: Architecture, devices: int = 1, **mesh: int) -> Blueprint:
    """On a mesh of the first `devices`."""
    partitioner = Partitioner(**mesh)
    rules = partitioner.logical_axis_rules(partitioner.mesh(jax.devices()[:devices]))
    return Blueprint.of(architecture, rules)


@functools.cache
def parameters(architecture: Architecture, seed: int = 0) -> dict:
    """Parameters drawn by numpy (nothing to compile), norm scales uneven so that they matter."""
    rng = np.random.default_rng(seed)
    tree: dict = {}
    for info in parameter_infos(architecture.abstract()):
        if info.path[-1] == "scale":
            value = rng.uniform(0.5, 1.5, info.shape)
        else:
            value = rng.normal(0.0, 1.0 if info.path[-1] == "embedding" else 0.3, info.shape)
        insert(tree, info.path, jnp.asarray(value, jnp.float32))
    return tree


@functools.cache
def logits_of(architecture: Architecture) -> Callable:
    """The compiled `(params, batch, key=None) -> logits`."""
    graphdef = nnx.graphdef(architecture.abstract())
    return jax.jit(lambda params, batch, key=None: nnx.merge(graphdef, params)(batch, key=key))


def batch_of(
    architecture: type[Architecture] | Architecture,
    rows: Sequence[Sequence[Example]],
    lengths: Lengths,
) -> dict[str, jax.Array]:
    """The batch whose row i holds the examples `rows[i]`."""
    made = [architecture.layout.row(examples, lengths) for examples in rows]
    return {name: jnp.asarray(np.stack([row[name] for row in made])) for name in made[0]}


def example(inputs: int, targets: int, seed: int = 0) -> Example:
    """Random tokens; no inputs is an example without that feature."""
    rng = np.random.default_rng((seed, inputs, targets))
    tokens = rng.integers(2, 48, inputs + targets).astype(np.int32)
    made = {"targets": tokens[inputs:]}
    return {"inputs": tokens[:inputs], **made} if inputs else made


def two_rows(architecture: type[Architecture] | Architecture) -> dict[str, jax.Array]:
    """Two rows of two packed examples with some padding, lengths 16 and 12."""
    rows = [[example(6, 5), example(8, 4, 1)], [example(9, 7, 2), example(3, 2, 3)]]
    return batch_of(architecture, rows, {"inputs": 16, "targets": 12})
