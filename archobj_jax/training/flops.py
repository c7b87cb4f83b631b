"""Floating-point operations of a model, counted from its parameters, and what a device can do.

A multiplication and an addition are two operations. Counted are all matrix products: projections,
feed-forward, logits, attention (every query with every key of the row, masked or not) and
cross-attention; not norms, activations, softmax and embedding look-ups.
"""

import time
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp

from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import ParameterInfo
from archobj_jax.partitioning.chips import CHIPS

PEAK_FLOPS: Mapping[str, float] = {kind: chip.peak_flops for kind, chip in CHIPS.items()}
"""Dense bfloat16 operations a second of one device, by `jax.Device.device_kind`."""


def forward_flops(
    config: NetworkConfig,
    infos: Iterable[ParameterInfo],
    *,
    rows: int,
    target_length: int,
    source_length: int = 0,
) -> float:
    """Operations of one forward pass over `rows` rows (source_length: the encoder's)."""
    tokens = {"decoder": target_length, "encoder": source_length}
    per_row = 0.0
    for info in infos:
        if info.path[-1] != "kernel":
            continue
        length = tokens.get(info.path[0], target_length)
        if "encoder_decoder_attention" in info.path and info.path[-2] in ("key", "value"):
            length = source_length
        per_row += 2.0 * info.size * length
    if config.logits_via_embedding:
        per_row += 2.0 * config.vocab_size * config.emb_dim * target_length
    pairs = config.num_decoder_layers * target_length * (target_length + source_length)
    if source_length:
        pairs += config.num_encoder_layers * source_length**2
    per_row += 4.0 * pairs * config.num_heads * config.head_dim
    return rows * per_row


def positions(batch: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """Positions of a batch [B, L] that are read, padding included, the encoder's too."""
    return sum(x.size for name, x in batch.items() if name.endswith("_input_tokens"))


def batch_flops(
    config: NetworkConfig,
    infos: Iterable[ParameterInfo],
    batch: Mapping[str, jax.ShapeDtypeStruct],
) -> float:
    """Operations of one forward pass over a batch [B, L], logits of all positions included."""
    rows, target_length = batch["decoder_input_tokens"].shape
    source = batch.get("encoder_input_tokens")
    return forward_flops(
        config,
        infos,
        rows=rows,
        target_length=target_length,
        source_length=0 if source is None else source.shape[1],
    )


def train_flops(forward: float) -> float:
    """Operations of a training step: the backward pass takes two of the forward pass.

    Recomputation (remat) is not counted: it is not the model's.
    """
    return 3.0 * forward


def device_peak(device: jax.Device) -> tuple[float, str]:
    """Operations a second that one device can do at most, and where the figure is from.

    For a device that `PEAK_FLOPS` does not know, the CPU above all, a 2048 x 2048 float32 matrix
    product is timed; all CPU devices of a process share its cores, so they share its peak.
    """
    if device.device_kind in PEAK_FLOPS:
        return PEAK_FLOPS[device.device_kind], f"{device.device_kind}, bfloat16"
    size = 2048
    x = jax.device_put(jnp.ones((size, size), jnp.float32), device)
    product = jax.jit(jnp.matmul).lower(x, x).compile()
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    sharing = len(jax.local_devices()) if device.platform == "cpu" else 1
    return 2.0 * size**3 / min(seconds) / sharing, "measured float32 matrix product"
