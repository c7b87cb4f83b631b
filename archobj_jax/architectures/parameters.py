"""Parameters with their logical axes and the name of their initialiser.

Logical axes (T5X's names) say what each dimension is; `partitioning` maps them to mesh axes, the
optimizer reads which is the layer axis, and golden files list them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from archobj_jax.shapes import Array

M = TypeVar("M", bound=nnx.Module)

LAYERS = "layers"
"""Logical axis of parameters stacked over the layers of a scanned stack."""


@dataclasses.dataclass(frozen=True)
class Initializer:
    """How a parameter starts: `sample(key, shape, dtype)`, and the name that golden files show."""

    name: str
    sample: Callable[[jax.Array, tuple[int, ...], Any], Array]

    def divided_by(self, divisor: float, what: str) -> "Initializer":
        """The same initialiser with its samples divided by `divisor`, described as `what`."""
        return Initializer(
            f"{self.name} / {what}",
            lambda key, shape, dtype: self.sample(key, shape, dtype) / divisor,
        )


def variance_scaling(
    mode: Literal["fan_in", "fan_avg"],
    distribution: Literal["truncated_normal", "normal", "uniform"],
) -> Initializer:
    """Variance scaling with scale 1 (`jax.nn.initializers.variance_scaling`)."""
    return Initializer(
        f"variance_scaling(1, {mode}, {distribution})",
        jax.nn.initializers.variance_scaling(1.0, mode, distribution),
    )


PROJECTION = variance_scaling("fan_in", "normal")
MLP = variance_scaling("fan_in", "truncated_normal")
RELATIVE_POSITION = variance_scaling("fan_avg", "uniform")
EMBEDDING = Initializer("normal(1)", jax.nn.initializers.normal(1.0))
SCALE = Initializer("ones", jax.nn.initializers.ones)


def query_projection(head_dim: int) -> Initializer:
    """Query initialiser; attention logits are not scaled at run time, this is where T5 does it."""
    return PROJECTION.divided_by(math.sqrt(head_dim), f"sqrt({head_dim})")


def parameter(
    init: Initializer, shape: tuple[int, ...], axes: tuple[str, ...], *, rngs: nnx.Rngs
) -> nnx.Param:
    """A float32 parameter of `shape`, whose dimensions are the logical `axes`."""
    if len(shape) != len(axes):
        raise ValueError(f"parameter of shape {shape} has logical axes {axes}")
    value = init.sample(rngs.params(), shape, jnp.float32)
    return nnx.Param(value, logical_axes=axes, initializer=init.name)


def stack_layers(make: Callable[[nnx.Rngs], M], count: int, *, rngs: nnx.Rngs) -> M:
    """Makes `count` layers as one module whose parameters have a leading `layers` axis."""
    keys = jax.random.split(rngs.params(), count)
    layers = nnx.vmap(lambda key: make(nnx.Rngs(params=key)))(keys)
    for _, variable in nnx.iter_graph(layers):
        if isinstance(variable, nnx.Param):
            variable.set_metadata("logical_axes", (LAYERS, *variable.logical_axes))
    return layers


@dataclasses.dataclass(frozen=True)
class ParameterInfo:
    """What is known of a parameter without its value."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    logical_axes: tuple[str, ...]
    initializer: str

    @property
    def name(self) -> str:
        """The path as `a/b/c`."""
        return "/".join(self.path)

    @property
    def is_stacked(self) -> bool:
        """Whether the first axis counts scanned layers."""
        return self.logical_axes[0] == LAYERS

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def parameter_infos(model: nnx.Module) -> Iterator[ParameterInfo]:
    """Describes every parameter of a (possibly abstract) model, sorted by path."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    for path, variable in sorted(flat, key=lambda item: item[0]):
        yield ParameterInfo(
            path=tuple(str(part) for part in path),
            shape=tuple(variable.shape),
            dtype=str(variable.dtype),
            logical_axes=variable.logical_axes,
            initializer=variable.initializer,
        )


def insert(tree: dict, path: Sequence[str], value: Any) -> None:
    """Puts `value` at `path` of a nested dict."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def lookup(tree: Mapping, path: Sequence[str]) -> Any:
    """The value at `path` of a nested mapping."""
    value: Any = tree
    for name in path:
        value = value[name]
    return value
