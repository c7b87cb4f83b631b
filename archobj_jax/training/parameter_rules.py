"""Which parameter of a model comes from which parameter of another, and how it is made to fit.

Rules rewrite a parameter's name from the model that is to be trained towards the one that was; a
name that no rule rewrites stands for itself. Nothing here reads or allocates an array.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from archobj_jax.architectures.parameters import ParameterInfo
from archobj_jax.architectures.positions import relative_position_bucket
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.shapes import Array

Adjustment = Callable[[Array, Array, ParameterInfo], Array]
"""Of the source's value, a fresh one of the target, and what the target is.

Where it cannot make the target's shape it returns what it can: the shapes then differ, and that is
an error which names both. It is applied to optimizer slots too, whose shapes may lack a dimension.
"""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where parameters come from.

    Attributes:
      target: regular expression of whole names, e.g. "encoder/(.*)"; None if it is a rule about
        parameters of the source that are left behind.
      source: the name to take instead, with groups of `target` as in `re.sub`; None initialises
        anew. Without `target`, a regular expression of names.
      adjustment: how the value is made to fit, a name in `ADJUSTMENTS`; None takes it as it is.
    """

    target: str | None
    source: str | None
    adjustment: str | None = None

    def __post_init__(self) -> None:
        if (self.target or self.source) is None or (
            self.adjustment is not None and None in (self.target, self.source)
        ):
            raise UserError(f"{self}: an adjustment is of a value, and a value is of a target.")
        for pattern in (self.target, None if self.target else self.source):
            try:
                compiled = re.compile(pattern or "")
            except re.error as error:
                raise UserError(f"Rule: {pattern!r} is no regular expression: {error}.") from error
            if self.target is not None and pattern == self.target:
                self._check_groups(compiled)
        if self.adjustment is not None and self.adjustment not in ADJUSTMENTS:
            raise UserError(
                f"Rule.adjustment = {self.adjustment!r}: must be one of {', '.join(ADJUSTMENTS)}."
                + did_you_mean(self.adjustment, ADJUSTMENTS)
            )

    def _check_groups(self, target: re.Pattern) -> None:
        named_groups = [int(group) for group in re.findall(r"\\(\d+)", self.source or "")]
        if missing := [group for group in named_groups if group > target.groups]:
            raise UserError(
                f"Rule.source = {self.source!r} names group {missing[0]}, and {self.target!r} has "
                f"{target.groups}."
            )

    def concerns(self, target: str | None, source: str | None) -> bool:
        """Whether it is about a parameter of the target, or leaves one of the source behind."""
        if self.target is None:
            return source is not None and bool(re.fullmatch(self.source or "", source))
        return target is not None and bool(re.fullmatch(self.target, target))


def _every_layer(source: Array, _fresh: Array, target: ParameterInfo) -> Array:
    """[…] to [N, …]: every layer has the same."""
    return jnp.broadcast_to(source, (target.shape[0], *source.shape))


def _first_layer(source: Array, _fresh: Array, _target: ParameterInfo) -> Array:
    """[N, …] to […]: the first layer's."""
    return source[0]


def _more_layers(source: Array, _fresh: Array, target: ParameterInfo) -> Array:
    """[n, …] to [N, …], n <= N: layer i is the source's layer i * n // N."""
    count, layers = target.shape[0], source.shape[0]
    if count < layers:
        return source
    return source[jnp.arange(count) * layers // count]


def _more_ids(source: Array, fresh: Array, target: ParameterInfo) -> Array:
    """Longer along the vocabulary: the ids there were keep their values, new ones start fresh."""
    axis = target.logical_axes.index("vocab")
    count = source.shape[axis]
    if count >= fresh.shape[axis]:
        return source
    new = jax.lax.slice_in_dim(fresh, count, fresh.shape[axis], axis=axis)
    return jnp.concatenate([source, new], axis=axis)


def _causal_buckets(source: Array, _fresh: Array, target: ParameterInfo) -> Array:
    """A table of bidirectional relative positions, read as a causal one."""
    return _rebucketed(source, target, bidirectional=False)


def _bidirectional_buckets(source: Array, _fresh: Array, target: ParameterInfo) -> Array:
    """A table of causal relative positions, read as a bidirectional one."""
    return _rebucketed(source, target, bidirectional=True)


def _rebucketed(source: Array, target: ParameterInfo, *, bidirectional: bool) -> Array:
    if source.shape[-1] != target.shape[-1]:  # an optimizer slot that has no buckets
        return source
    return source[..., _buckets(source.shape[-1], bidirectional=bidirectional)]


def _buckets(count: int, *, bidirectional: bool) -> Array:
    """For each bucket of one kind of table, int32 [count], the one of the other for its distances.

    Of several distances in a bucket the nearest is taken. Causal tables have keys after the query
    in bucket 0, as a prefix decoder reads them.
    """
    distances = np.arange(-1024, 1025)
    distances = distances[np.argsort(-np.abs(distances))]  # the nearest last: it is what stays
    with jax.ensure_compile_time_eval():  # a constant, also where this is traced
        wanted, there = (
            np.asarray(
                relative_position_bucket(
                    jnp.asarray(distances), bidirectional=kind, num_buckets=count
                )
            )
            for kind in (bidirectional, not bidirectional)
        )
    found = dict(zip(wanted.tolist(), there.tolist(), strict=True))
    return jnp.array([found.get(bucket, 0) for bucket in range(count)], jnp.int32)


ADJUSTMENTS: Mapping[str, Adjustment] = {
    "every_layer": _every_layer,
    "first_layer": _first_layer,
    "more_layers": _more_layers,
    "more_ids": _more_ids,
    "causal_buckets": _causal_buckets,
    "bidirectional_buckets": _bidirectional_buckets,
}

_POSITIONS = "((?:layers/)?relpos_bias/.*)"
_CROSS = "decoder/layers/(?:encoder_decoder_attention|pre_cross_attention_layer_norm)/.*"

NAMED_RULES: Mapping[str, tuple[Rule, ...]] = {
    "more_layers": (Rule("(?:encoder|decoder)/layers/.*", r"\g<0>", "more_layers"),),
    "larger_vocabulary": (
        Rule("token_embedder/embedding|logits_dense/kernel", r"\g<0>", "more_ids"),
    ),
    "positions_per_layer": (
        Rule("(encoder|decoder)/layers/relpos_bias/(.*)", r"\1/relpos_bias/\2", "every_layer"),
    ),
    "positions_shared": (
        Rule("(encoder|decoder)/relpos_bias/(.*)", r"\1/layers/relpos_bias/\2", "first_layer"),
        Rule(None, "(?:encoder|decoder)/layers/relpos_bias/.*"),
    ),
    "take_decoder": (Rule(None, "encoder/.*"), Rule(None, _CROSS)),
    "take_encoder": (
        Rule(f"decoder/{_POSITIONS}", r"encoder/\1", "causal_buckets"),
        Rule("decoder/(.*)", r"encoder/\1"),
        Rule(None, "decoder/.*"),
    ),
    "fill_encoder": (
        Rule(f"encoder/{_POSITIONS}", r"decoder/\1", "bidirectional_buckets"),
        Rule("encoder/(.*)", r"decoder/\1"),
        Rule(_CROSS, None),
    ),
}
"""Rules by name. They are applied in this order, which serves every combination."""


def named(names: str | Iterable[str | Rule]) -> list[Rule]:
    """The rules of `INITIAL_CHECKPOINT_RULES`: `Rule`s first, then names in NAMED_RULES' order.

    Raises:
      UserError: there is no rule of that name.
    """
    given = [names] if isinstance(names, str) else list(names)
    for name in given:
        if isinstance(name, str) and name not in NAMED_RULES:
            raise UserError(
                f"INITIAL_CHECKPOINT_RULES: there is no rule {name!r}; there are "
                f"{', '.join(NAMED_RULES)}." + did_you_mean(name, NAMED_RULES)
            )
    own = [rule for rule in given if isinstance(rule, Rule)]
    return own + [rule for name, rules in NAMED_RULES.items() if name in given for rule in rules]


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a parameter comes from.

    Attributes:
      source: the name there; None if it is initialised anew.
      adjustments: names in `ADJUSTMENTS`, in the order in which they are applied.
    """

    source: str | None
    adjustments: tuple[str, ...] = ()

    def value(self, source: Array, fresh: Array, target: ParameterInfo) -> Array:
        """The parameter's value, traced."""
        for name in self.adjustments:
            source = ADJUSTMENTS[name](source, fresh, target)
        return source


@dataclasses.dataclass(frozen=True)
class Uncovered:
    """A parameter for which no rule works; a shape that is None is one that does not exist."""

    name: str
    here: tuple[int, ...] | None
    there: tuple[int, ...] | None

    def __str__(self) -> str:
        here, there = ("nothing" if s is None else list(s) for s in (self.here, self.there))
        return f"{self.name}: {here} here, {there} there"


def unused(
    targets: Sequence[ParameterInfo],
    sources: Sequence[ParameterInfo],
    names: str | Iterable[str | Rule],
) -> list[str | Rule]:
    """Those of `names` that concern no parameter of either model."""
    given = [names] if isinstance(names, str) else list(names)
    rewritten = {name for info in targets for name in _names(info.name, named(given))}
    there = [info.name for info in sources]
    return [
        each
        for each in given
        if not any(
            any(rule.concerns(name, None) for name in rewritten)
            or any(rule.concerns(None, name) for name in there)
            for rule in named([each])
        )
    ]


def origins(
    targets: Sequence[ParameterInfo], sources: Sequence[ParameterInfo], rules: Sequence[Rule]
) -> tuple[dict[str, Origin], list[Uncovered]]:
    """Where every target comes from, by name; and targets and sources that no rule covers."""
    there = {info.name: info for info in sources}
    found: dict[str, Origin] = {}
    uncovered = []
    traced = {info.name: _traced(info.name, rules) for info in targets}
    for info in targets:
        origin = traced[info.name]
        source = None if origin.source is None else there.get(origin.source)
        if origin.source is None or (
            source is not None and fits(origin, source.shape, info.shape, info)
        ):
            found[info.name] = origin
        else:
            name = info.name
            if origin.source != name:
                name += f" (from {origin.source})"
            uncovered.append(Uncovered(name, info.shape, source.shape if source else None))
    tried = {origin.source for origin in traced.values()}
    uncovered += [
        Uncovered(info.name, None, info.shape)
        for info in sources
        if info.name not in tried and not any(rule.concerns(None, info.name) for rule in rules)
    ]
    return found, uncovered


def helpful(
    targets: Sequence[ParameterInfo],
    sources: Sequence[ParameterInfo],
    given: Sequence[str | Rule],
) -> list[tuple[str, ...]]:
    """The smallest additions of named rules with which every parameter is covered."""
    others = [name for name in NAMED_RULES if name not in given]
    for count in range(1, 4):
        working = [
            more
            for more in itertools.combinations(others, count)
            if not origins(targets, sources, named([*given, *more]))[1]
        ]
        if working:
            return working
    return []


def _traced(name: str, rules: Sequence[Rule]) -> Origin:
    adjustments: list[str] = []
    for rule in rules:
        if rule.target is None or not (match := re.fullmatch(rule.target, name)):
            continue
        if rule.source is None:
            return Origin(None)
        name = match.expand(rule.source)
        if rule.adjustment:
            adjustments.insert(0, rule.adjustment)
    return Origin(name, tuple(adjustments))


def _names(name: str, rules: Sequence[Rule]) -> list[str]:
    """The names that a target's name is on its way to the source's, the first and last included."""
    return [_traced(name, rules[:count]).source or name for count in range(len(rules) + 1)]


@functools.lru_cache(maxsize=4096)
def fits(
    origin: Origin, source: tuple[int, ...], shape: tuple[int, ...], target: ParameterInfo
) -> bool:
    """Whether an array of shape `source`, adjusted, has `shape`.

    The arrays are those of parameter `target`, or of an optimizer slot of it.
    """

    def shaped(shape: tuple[int, ...]) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    try:
        made = jax.eval_shape(
            lambda s, f: origin.value(s, f, target), shaped(source), shaped(shape)
        )
    except (TypeError, ValueError, IndexError):  # JAX's, of shapes that the adjustment is not for
        return False
    return made.shape == shape
