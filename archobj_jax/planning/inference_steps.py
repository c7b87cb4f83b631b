"""The steps of ranking and of generation, laid on the chips of a topology.

Work is laid out in batches as `archobj evaluate` does; sizes are those of a full batch of the
longest texts, so that what fits here fits there.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.errors import UserError
from archobj_jax.inference import scoring, token_loop
from archobj_jax.inference.batching import bucket
from archobj_jax.inference.placing import row_shards
from archobj_jax.inference.predictor import BATCH_TOKENS
from archobj_jax.inference.sampling import Sampling
from archobj_jax.inference.token_loop import CHUNK, Carry, TokenLoop
from archobj_jax.partitioning.rules import activated
from archobj_jax.planning.steps import PlannedStep, mesh_of
from archobj_jax.training import flops
from archobj_jax.training.state import Blueprint, per_device_bytes

Arrays = dict[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class InferenceSizes:
    """How long texts are, and how many are worked on at a time.

    Attributes:
      task_feature_lengths: tokens of `inputs` (of a prompt) and of `targets` (of all choices of a
        question together; of a text that is generated) at most.
      choices: of a question.
      batch_tokens: that a device reads at a time, about.

    Raises:
      UserError: a size is missing or not positive.
    """

    task_feature_lengths: Mapping[str, int]
    choices: int = 4
    batch_tokens: int = BATCH_TOKENS

    def __post_init__(self) -> None:
        sizes = [self.task_feature_lengths.get(name, 0) for name in ("inputs", "targets")]
        if min(*sizes, self.choices, self.batch_tokens) < 1:
            raise UserError(
                f"InferenceSizes: task_feature_lengths = {dict(self.task_feature_lengths)} must "
                "have inputs and targets, and those, choices and batch_tokens must be at least 1."
            )

    @property
    def columns(self) -> int:
        """That a prompt takes, its start included."""
        return bucket(self.task_feature_lengths["inputs"] + 1)

    @property
    def targets(self) -> int:
        """Tokens of targets."""
        return self.task_feature_lengths["targets"]

    def rows(self, blueprint: Blueprint, length: int) -> int:
        """Of a full batch whose rows have `length` tokens; see `batching.batches`."""
        return max(self.batch_tokens // length, 1) * row_shards(blueprint.rules)


def scoring_step(blueprint: Blueprint, sizes: InferenceSizes) -> PlannedStep:
    """Reads the inputs of questions, and their choices as branches behind them."""
    branch = bucket(sizes.targets)
    rows = sizes.rows(blueprint, sizes.columns + branch)
    batch = _prompts(blueprint, rows, sizes.columns)
    names = ("branch_tokens", "branch_targets", "branch_ids", "branch_offsets")
    shapes = dict.fromkeys(names, branch) | {"branch_first": bucket(sizes.choices)}
    branches = {name: _rows_of(blueprint, rows, size) for name, size in shapes.items()}
    arrays, params = batch | branches, blueprint.abstract_params()
    return PlannedStep(
        name="score",
        title=f"{rows} questions ranked, {sizes.columns} tokens of inputs, {branch} of choices",
        mesh=mesh_of(blueprint),
        lower=lambda: scoring.log_likelihoods.lower(blueprint, params, arrays),
        given={"parameters": per_device_bytes(params), "a batch": per_device_bytes(arrays)},
        flops=_prompt_flops(blueprint, batch)
        + _extending_flops(blueprint, batch, branch, _columns(batch) + branch),
        rows=rows,
        tokens=flops.positions(batch) + rows * branch,
    )


@dataclasses.dataclass(frozen=True)
class Generating:
    """A batch of prompts that are gone on with, without values.

    Attributes:
      loop: makes tokens, the most likely ones.
      sizes: of the texts.
      params: of the model.
      batch: prompts, as the model reads them.
    """

    loop: TokenLoop
    sizes: InferenceSizes
    params: Any
    batch: Arrays

    @classmethod
    def of(cls, blueprint: Blueprint, sizes: InferenceSizes) -> "Generating":
        """A full batch of the longest prompts."""
        rows = sizes.rows(blueprint, sizes.columns + sizes.targets)
        loop = TokenLoop(blueprint, Sampling(), num_samples=1, eos_id=1)
        batch = _prompts(blueprint, rows, sizes.columns)
        return cls(loop, sizes, blueprint.abstract_params(), batch)

    @property
    def arguments(self) -> tuple[Any, Arrays, jax.ShapeDtypeStruct]:
        """Of `token_loop.prefill`, behind the loop."""
        blueprint, rows = self.loop.blueprint, self.rows
        numbers = {name: _rows_of(blueprint, rows) for name in ("limits", "numbers")}
        return self.params, self.batch | numbers, self.whole((), jnp.uint32)

    @property
    def rows(self) -> int:
        """Prompts."""
        return self.batch["decoder_input_tokens"].shape[0]

    def capacity(self, tokens: int | None = None) -> int:
        """Of the cache with room for so many new tokens; None is for the longest text."""
        columns = _columns(self.batch)
        longest = columns + self.sizes.targets - 1
        return token_loop.capacity_for(columns + tokens if tokens else longest, longest)

    def carry(self, capacity: int) -> Carry:
        """What goes from chunk to chunk, as `token_loop` lays it on the mesh."""
        prefill = functools.partial(token_loop.prefill, self.loop, capacity=capacity)
        carry, _, _ = jax.eval_shape(prefill, *self.arguments)
        with activated(self.loop.blueprint.rules):
            carry = dataclasses.replace(carry, decoding=carry.decoding.constrained())
        return jax.tree.map(
            lambda x: x if x.sharding else self.whole(x.shape, x.dtype),
            carry,
        )

    def whole(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """An array that every chip has."""
        sharding = NamedSharding(mesh_of(self.loop.blueprint), PartitionSpec())
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def generation_steps(blueprint: Blueprint, sizes: InferenceSizes) -> list[PlannedStep]:
    """Reads prompts; then makes `CHUNK` tokens of each, the cache as full as it comes to be."""
    generating = Generating.of(blueprint, sizes)
    return [_prefill_step(generating), _decode_step(generating)]


def _prefill_step(generating: Generating) -> PlannedStep:
    loop, batch, arguments = generating.loop, generating.batch, generating.arguments
    capacity = generating.capacity(token_loop.FIRST_ROOM)
    return PlannedStep(
        name="prefill",
        title=f"{generating.rows} prompts of {generating.sizes.columns} tokens read",
        mesh=mesh_of(loop.blueprint),
        lower=lambda: token_loop.prefill.lower(loop, *arguments, capacity=capacity),
        given={
            "parameters": per_device_bytes(generating.params),
            "a batch": per_device_bytes(arguments[1]),
        },
        flops=_prompt_flops(loop.blueprint, batch),
        rows=generating.rows,
        tokens=flops.positions(batch),
    )


def _decode_step(generating: Generating) -> PlannedStep:
    loop, params, rows = generating.loop, generating.params, generating.rows
    capacity = generating.capacity()
    carry = generating.carry(capacity)
    control = generating.whole((rows,), jnp.bool_), generating.whole((), jnp.int32)
    cache = per_device_bytes((carry.decoding.cache.own, carry.decoding.cache.memory))
    return PlannedStep(
        name="decode",
        title=f"{CHUNK} tokens made of each of {rows} texts, {capacity} tokens in the cache",
        mesh=mesh_of(loop.blueprint),
        lower=lambda: token_loop.advance.lower(loop, params, carry, *control),
        given={
            "parameters": per_device_bytes(params),
            "keys and values": cache,
            "the rest of the state": per_device_bytes(carry) - cache,
        },
        flops=CHUNK * _extending_flops(loop.blueprint, generating.batch, 1, capacity),
        rows=rows * CHUNK / generating.sizes.targets,
        tokens=CHUNK * rows,
        unbounded=CHUNK,
    )


def _prompts(blueprint: Blueprint, rows: int, columns: int) -> Arrays:
    """Prompts as decoding and ranking lay them out, with room for one target."""
    spec = blueprint.architecture.layout.spec({"inputs": columns - 1, "targets": 1})
    return {
        name: _rows_of(blueprint, rows, *shape, dtype=dtype)
        for name, (shape, dtype) in spec.items()
    }


def _rows_of(
    blueprint: Blueprint, rows: int, *shape: int, dtype: Any = np.int32
) -> jax.ShapeDtypeStruct:
    whole = (rows, *shape)
    sharding = blueprint.rules.sharding(whole, ("batch",) + (None,) * len(shape))
    return jax.ShapeDtypeStruct(whole, dtype, sharding=sharding)


def _columns(batch: Arrays) -> int:
    """That prompts take of the decoder: all of them, or with an encoder the start alone."""
    return batch["decoder_input_tokens"].shape[1]


def _prompt_flops(blueprint: Blueprint, batch: Arrays) -> float:
    """Operations of reading prompts, with the logits of the last position alone."""
    network = blueprint.architecture.network
    rows, columns = batch["decoder_input_tokens"].shape
    unread = 2.0 * rows * (columns - 1) * network.emb_dim * network.vocab_size
    return flops.batch_flops(network, blueprint.infos, batch) - unread


def _extending_flops(blueprint: Blueprint, batch: Arrays, tokens: int, capacity: int) -> float:
    """Operations of reading `tokens` more a row, where there are `capacity` in all."""
    network: NetworkConfig = blueprint.architecture.network
    rows = batch["decoder_input_tokens"].shape[0]
    forward = flops.forward_flops(network, blueprint.infos, rows=rows, target_length=tokens)
    source = batch.get("encoder_input_tokens")
    attended = capacity - tokens + (0 if source is None else source.shape[1])
    pairs = rows * tokens * attended * network.num_decoder_layers
    return forward + 4.0 * pairs * network.num_heads * network.head_dim
