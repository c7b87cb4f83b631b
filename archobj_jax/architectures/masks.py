"""Who attends to whom, as small functions of where the query and the key stand.

A mask is a function `(query: Places, key: Places) -> Bool[B L S]`, true where attention is allowed.
Masks combine by `all_of` and `any_of`, and are evaluated inside attention: nothing outside ever
holds a dense [L, S] array. An architecture is a stack of layers and one of the masks at the end.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Bool, Int, checked


@struct.dataclass
class Places:
    """Where the tokens of a batch stand.

    Attributes:
      segment: which example of a packed row a token belongs to, from 1; 0 is padding.
      offset: place in the row, from 0 (T5 takes relative positions from it, packed or not); one
        row when it is the same for the whole batch.
      prefix: whether the token is of the part that a non-causal decoder reads bidirectionally.
      branch: which of several continuations of an example a token belongs to, from 1; 0 is what
        they all continue. None where examples do not branch, as in training.
    """

    segment: Int[Array, "B L"]
    offset: Int[Array, "#B L"]
    prefix: Bool[Array, "B L"]
    branch: Int[Array, "B L"] | None = None

    @classmethod
    def of(cls, segment: Int[Array, "B L"], prefix: Array | None = None) -> "Places":
        """Places of whole rows: offsets 0..L-1; `prefix` [B, L] counts as true where positive."""
        offset = jnp.arange(segment.shape[1], dtype=jnp.int32)[None, :]
        in_prefix = jnp.zeros(segment.shape, bool) if prefix is None else prefix > 0
        return cls(segment=segment, offset=offset, prefix=in_prefix)

    def padded(self, length: int) -> "Places":
        """With empty places behind, for tokens that are read later; `length` in all."""
        room = ((0, 0), (0, length - self.segment.shape[1]))
        return jax.tree.map(lambda x: jnp.pad(x, room), self)

    def written(self, new: "Places", column: Int[Array, ""]) -> "Places":
        """With `new` at the columns from `column` on, the same in all rows."""

        def written(old: Array, new: Array) -> Array:
            new = jnp.broadcast_to(new, (old.shape[0], new.shape[1]))
            return jax.lax.dynamic_update_slice(old, new, (0, column))

        branch = self.branch
        if new.branch is not None:
            branch = written(jnp.zeros_like(self.segment) if branch is None else branch, new.branch)
        return Places(
            segment=written(self.segment, new.segment),
            offset=written(self.offset, new.offset),
            prefix=written(self.prefix, new.prefix),
            branch=branch,
        )

    def repeated(self, times: int) -> "Places":
        """Every row so many times, one after the other."""
        rows = self.segment.shape[0]

        def repeated(x: Array) -> Array:
            return jnp.repeat(x, times, axis=0) if x.shape[0] == rows else x

        return jax.tree.map(repeated, self)

    def gathered(self) -> "Places":
        """The same, whole rows on every device that has any of them: what keys are looked up by."""

        def gathered(x: Array) -> Array:
            return constrain(x, ("batch" if x.shape[0] > 1 else None, "kv_length"))

        return jax.tree.map(gathered, self)


MaskArray = Bool[Array, "B L S"]
Mask = Callable[[Places, Places], MaskArray]


@checked
def causal(query: Places, key: Places) -> Bool[Array, "_ L S"]:
    """The key is not after the query::

    1 . . .
    1 1 . .
    1 1 1 .
    1 1 1 1
    """
    return key.offset[:, None, :] <= query.offset[:, :, None]


@checked
def same_segment(query: Places, key: Places) -> MaskArray:
    """Query and key are of the same example, and neither is padding; for segments 1 1 2 0::

    1 1 . .
    1 1 . .
    . . 1 .
    . . . .
    """
    alike = query.segment[:, :, None] == key.segment[:, None, :]
    return alike & (query.segment > 0)[:, :, None]


@checked
def in_prefix(query: Places, key: Places) -> MaskArray:
    """Query and key are both of the bidirectional part; for a prefix of two tokens::

    1 1 . .
    1 1 . .
    . . . .
    . . . .
    """
    return query.prefix[:, :, None] & key.prefix[:, None, :]


@checked
def same_branch(query: Places, key: Places) -> Bool[Array, "_ L S"]:
    """The key is of the query's branch or of what all branches continue; for branches 0 1 1 2::

    1 . . .
    1 1 1 .
    1 1 1 .
    1 . . 1
    """
    if query.branch is None or key.branch is None:
        return jnp.ones((1, query.segment.shape[1], key.segment.shape[1]), bool)
    there = key.branch[:, None, :]
    return (there == 0) | (there == query.branch[:, :, None])


def all_of(*masks: Mask) -> Mask:
    """Allowed where every one of `masks` allows it."""

    def combined(query: Places, key: Places) -> MaskArray:
        allowed = masks[0](query, key)
        for mask in masks[1:]:
            allowed = allowed & mask(query, key)
        return allowed

    return combined


def any_of(*masks: Mask) -> Mask:
    """Allowed where any one of `masks` allows it."""

    def combined(query: Places, key: Places) -> MaskArray:
        allowed = masks[0](query, key)
        for mask in masks[1:]:
            allowed = allowed | mask(query, key)
        return allowed

    return combined


BIDIRECTIONAL: Mask = same_segment
"""Encoders, and decoders reading the encoder's output."""

CAUSAL: Mask = all_of(causal, same_segment, same_branch)
"""Causal decoders, and the decoder of an encoder-decoder."""

PREFIX: Mask = all_of(any_of(causal, in_prefix), same_segment, same_branch)
"""Non-causal decoders: bidirectional over the inputs, causal after them; prefix of 2 of 4::

    1 1 . .
    1 1 . .
    1 1 1 .
    1 1 1 1
"""
