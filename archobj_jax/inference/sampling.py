"""Greedy decoding, and sampling with temperature, top-k and top-p."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from archobj_jax.architectures.language_model import DecodingState
from archobj_jax.errors import UserError
from archobj_jax.inference.strategies import Hypothesis, Step, Trace
from archobj_jax.shapes import Array, Bool, Float, Int, checked


@struct.dataclass
class SamplingState:
    """What sampling keeps between tokens.

    Attributes:
      keys: random keys [R]; token i of a row is drawn with `fold_in(keys[row], i)`.
      limits: tokens that each row has at most.
      index: of the next token.
      done: rows that have ended.
      num_samples: rows of each prompt.
    """

    keys: Array
    limits: Int[Array, "R"]
    index: Int[Array, ""]
    done: Bool[Array, "R"]
    num_samples: int = struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Greedy, or random from the most likely tokens. A `Strategy`.

    Attributes:
      temperature: logits are divided by it; 0 is greedy, and the other fields then mean nothing.
      top_k: only so many most likely tokens can be drawn; 0 for all.
      top_p: only the fewest most likely tokens whose probabilities reach this sum can be drawn.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    rows_compete: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"Sampling: temperature = {self.temperature} and top_k = {self.top_k} must not be "
                f"negative, top_p = {self.top_p} must be in (0, 1]."
            )

    @checked
    def __call__(self, logits: Float[Array, "R V"], keys: Array) -> Int[Array, "R"]:
        """The next token of each row, drawn with its key of `keys` [R]."""
        if self.temperature == 0.0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        logits = self._most_likely(logits / self.temperature)
        return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

    def _most_likely(self, logits: Array) -> Array:
        """Logits with -inf for what cannot be drawn."""
        kept = logits
        if self.top_k:
            highest, _ = jax.lax.top_k(logits, min(self.top_k, logits.shape[-1]))
            # Their minimum, not the last of them: XLA would sort all logits for that.
            lowest = jnp.min(highest, axis=-1, keepdims=True)
            kept = jnp.where(logits < lowest, -jnp.inf, kept)
        if self.top_p < 1.0:
            # Probabilities are those among all tokens, also if top_k leaves some out.
            likely = jax.nn.softmax(logits, axis=-1)
            kept = jnp.where(likely < _threshold(likely, self.top_p), -jnp.inf, kept)
        return kept

    def rows(self, num_samples: int) -> int:
        """One for each sample."""
        return num_samples

    def begin(
        self, keys: Array, limits: Int[Array, "P"], *, num_samples: int, prompt: int
    ) -> SamplingState:
        """See `Strategy`. Sample s of a prompt has the key `fold_in(key, s)`."""
        del prompt
        samples = jnp.arange(num_samples)
        keys = jax.vmap(lambda key: jax.vmap(lambda s: jax.random.fold_in(key, s))(samples))(keys)
        limits = jnp.repeat(limits, num_samples)
        zero = jnp.zeros((), jnp.int32)
        return SamplingState(keys.reshape(-1), limits, zero, limits <= 0, num_samples)

    def choose(
        self,
        logits: Float[Array, "R V"],
        state: SamplingState,
        decoding: DecodingState,
        eos_id: int,
    ) -> tuple[Step, SamplingState, DecodingState]:
        """See `Strategy`. Rows that have ended take ends of sequence, of log likelihood 0."""
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.keys, state.index)
        tokens = jnp.where(state.done, eos_id, self(logits, keys))
        chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
        likely = jnp.where(state.done, 0.0, chosen - jax.nn.logsumexp(logits, axis=-1))
        index = state.index + 1
        done = state.done | (tokens == eos_id) | (index >= state.limits)
        rows = jnp.arange(tokens.shape[0], dtype=jnp.int32)
        state = dataclasses.replace(state, index=index, done=done)
        return Step(tokens, rows, likely), state, decoding

    def stop(self, state: SamplingState, rows: Bool[Array, "R"]) -> SamplingState:
        """See `Strategy`."""
        return dataclasses.replace(state, done=state.done | rows)

    def hypotheses(self, state: SamplingState, trace: Trace, eos_id: int) -> list[list[Hypothesis]]:
        """See `Strategy`."""
        samples = [
            _sample(trace, row, min(int(limit), len(trace)), eos_id)
            for row, limit in enumerate(np.asarray(state.limits))
        ]
        each = state.num_samples
        return [samples[start : start + each] for start in range(0, len(samples), each)]


def _sample(trace: Trace, row: int, count: int, eos_id: int) -> Hypothesis:
    tokens, likely = (x[0] for x in trace.paths(np.array([row]), count))
    total = float(likely.sum(dtype=np.float64))
    if (ends := np.flatnonzero(tokens == eos_id)).size:
        return Hypothesis(row, int(ends[0]), total, "eos")
    return Hypothesis(row, count, total, "length")


def _threshold(likely: Array, total: float) -> Array:
    """[R, 1], the highest probability such that those not below it sum to `total`.

    It is found bit by bit, as the bits of floats that are not negative order as they do (T5X's
    binary search); sorting the vocabulary takes far longer.
    """
    bits = jax.lax.bitcast_convert_type(likely, jnp.int32)

    def one(index: Array, found: Array) -> Array:
        higher = found | (1 << (30 - index))
        reached = jnp.sum(jnp.where(bits >= higher, likely, 0.0), axis=-1, keepdims=True)
        return jnp.where(reached >= total, higher, found)

    nothing = jnp.zeros((*likely.shape[:-1], 1), jnp.int32)
    found = jax.lax.fori_loop(0, 31, one, nothing)
    return jax.lax.bitcast_convert_type(found, jnp.float32)
