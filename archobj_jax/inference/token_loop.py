"""Token after token for a batch of prompts, by any strategy.

Tokens are made in chunks, a compiled loop each; between them the host may look at them, and gives
the cache more room. The cache has room for the text that there is and a bit more, not for the
longest one allowed: a token takes as long as its text is long.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from archobj_jax.architectures.language_model import DecodingState
from archobj_jax.inference.batching import bucket
from archobj_jax.inference.placing import place, replicated
from archobj_jax.inference.strategies import Step, Strategy, Trace
from archobj_jax.partitioning.rules import activated
from archobj_jax.shapes import Array, Int
from archobj_jax.training.state import Blueprint

CHUNK = 16
"""Tokens that a row makes at most between two looks of the host."""

FIRST_ROOM = 64
"""New tokens that the cache has room for at first; when it is full, it doubles."""

Look = Callable[[Trace], np.ndarray]
"""Sees the steps so far; says which rows [R] have met a stop string with their last token."""


@struct.dataclass
class Carry:
    """What goes from step to step: what was read, the strategy's state, the tokens to read next."""

    decoding: DecodingState
    choice: Any
    tokens: Int[Array, "R"]


@dataclasses.dataclass(frozen=True)
class TokenLoop:
    """Continues prompts.

    Attributes:
      blueprint: of the model.
      strategy: chooses tokens.
      num_samples: texts wanted of each prompt.
      eos_id: ends a text.
    """

    blueprint: Blueprint
    strategy: Strategy
    num_samples: int
    eos_id: int

    def run(
        self,
        params: Mapping,
        batch: Mapping[str, np.ndarray],
        *,
        seed: int,
        look: Look,
        chunk: int = CHUNK,
    ) -> tuple[Any, Trace]:
        """Makes tokens until all rows have ended.

        Args:
          params: of the model.
          batch: prompts as the layout has them, [P, L], with `limits` and `numbers`, int32 [P]: of
            tokens at most, and what a prompt's random key is made with.
          seed: of random keys, 32 bits.
          look: is called after every chunk.
          chunk: steps between two looks, at most `CHUNK`.

        Returns:
          The strategy's last state, and all steps.
        """
        most, columns = int(batch["limits"].max()), batch["decoder_input_tokens"].shape[1]
        # The last token of a text is not read.
        longest = columns + most - 1
        capacity = capacity_for(columns + FIRST_ROOM, longest)
        arrays = place(self.blueprint.rules, batch)
        carry, steps, done = prefill(self, params, arrays, np.uint32(seed), capacity=capacity)
        trace = Trace()
        trace.add(steps, 1)
        stopped = look(trace)
        while not np.asarray(done).all():
            # The newest token is not in the cache yet.
            needed = min(columns + len(trace) - 1 + chunk, longest)
            if needed > capacity:
                capacity = capacity_for(max(needed, 2 * capacity), longest)
                carry = _grown(self, carry, capacity=capacity)
            count = np.int32(min(chunk, most - len(trace)))
            carry, steps, made, done = advance(self, params, carry, stopped, count)
            trace.add(steps, int(made))
            stopped = look(trace)
        return carry.choice, trace


def capacity_for(wanted: int, longest: int) -> int:
    """Columns of a cache, at least the fewer of those wanted and those of the longest text."""
    return min(bucket(wanted), -(-longest // FIRST_ROOM) * FIRST_ROOM)


@functools.partial(jax.jit, static_argnums=0, static_argnames="capacity")
def prefill(
    loop: TokenLoop, params: Mapping, batch: Mapping[str, Array], seed: Array, *, capacity: int
) -> tuple[Carry, Step, Array]:
    """Reads the prompts, once each, and takes the first token of every row."""
    with activated(loop.blueprint.rules):
        columns = batch["decoder_input_tokens"].shape[1]
        logits, decoding = loop.blueprint.bind(params).start(batch, columns)
        rows = loop.strategy.rows(loop.num_samples)
        logits = jnp.repeat(logits, rows, axis=0)
        decoding = decoding.repeated(rows).grown(capacity)
        fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        choice = loop.strategy.begin(
            fold_in(jax.random.key(seed), batch["numbers"]),
            batch["limits"],
            num_samples=loop.num_samples,
            prompt=columns,
        )
        step, carry = _chosen(loop, logits, choice, decoding)
        steps = replicated(loop.blueprint.rules, jax.tree.map(lambda x: x[None], step))
        return _placed(loop, carry), steps, replicated(loop.blueprint.rules, carry.choice.done)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def advance(
    loop: TokenLoop, params: Mapping, carry: Carry, stopped: Array, count: Array
) -> tuple[Carry, Step, Array, Array]:
    """Takes up to `count` tokens for every row, fewer when all have ended."""
    rules = loop.blueprint.rules
    with activated(rules):
        carry = dataclasses.replace(carry, choice=loop.strategy.stop(carry.choice, stopped))
        rows = carry.tokens.shape[0]
        tokens = jnp.zeros((CHUNK, rows), jnp.int32)
        steps = Step(tokens, tokens, jnp.zeros((CHUNK, rows), jnp.float32))

        def unfinished(looped: tuple[Array, Carry, Step]) -> Array:
            index, carry, _ = looped
            return (index < count) & ~jnp.all(carry.choice.done)

        def one(looped: tuple[Array, Carry, Step]) -> tuple[Array, Carry, Step]:
            index, carry, steps = looped
            # Bound anew: NNX modules do not cross into the trace of a loop's body.
            model = loop.blueprint.bind(params)
            logits, decoding = model.advance(carry.tokens, carry.decoding)
            step, carry = _chosen(loop, logits, carry.choice, decoding)
            return index + 1, carry, jax.tree.map(lambda x, new: x.at[index].set(new), steps, step)

        start = (jnp.zeros((), jnp.int32), carry, steps)
        made, carry, steps = jax.lax.while_loop(unfinished, one, start)
        steps, done = replicated(rules, (steps, carry.choice.done))
        return _placed(loop, carry), steps, made, done


@functools.partial(jax.jit, static_argnums=0, static_argnames="capacity")
def _grown(loop: TokenLoop, carry: Carry, *, capacity: int) -> Carry:
    with activated(loop.blueprint.rules):
        carry = dataclasses.replace(carry, decoding=carry.decoding.grown(capacity))
        return _placed(loop, carry)


def _chosen(
    loop: TokenLoop, logits: Array, choice: Any, decoding: DecodingState
) -> tuple[Step, Carry]:
    step, choice, decoding = loop.strategy.choose(logits, choice, decoding, loop.eos_id)
    return step, Carry(decoding, choice, step.tokens)


def _placed(loop: TokenLoop, carry: Carry) -> Carry:
    """Lies the same after every chunk, so that the next one need not be compiled for it."""
    choice, tokens = replicated(loop.blueprint.rules, (carry.choice, carry.tokens))
    return Carry(carry.decoding.constrained(), choice, tokens)
