"""The train state, and its blueprint: everything about it but the values."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, struct

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.language_model import LanguageModel
from archobj_jax.architectures.parameters import ParameterInfo, insert, parameter_infos
from archobj_jax.partitioning.rules import LogicalAxisRules, activated

PyTree = Any


@struct.dataclass
class TrainState:
    """What a checkpoint holds: steps made, parameters (a nested dict), optimizer state."""

    step: Any
    params: PyTree
    opt_state: PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Blueprint:
    """A model's train state without values: names, shapes, logical axes, shardings.

    Equal only to itself, so that it can be a static argument of a jitted function.

    Attributes:
      architecture: what the model is.
      rules: where its arrays lie.
      infos: its parameters, sorted by path.
      graphdef: with parameters, makes the model again (`bind`).
    """

    architecture: Architecture
    rules: LogicalAxisRules
    infos: tuple[ParameterInfo, ...]
    graphdef: nnx.GraphDef

    @classmethod
    def of(cls, architecture: Architecture, rules: LogicalAxisRules) -> "Blueprint":
        """The blueprint of `architecture` on a mesh; allocates nothing."""
        model = architecture.abstract()
        return cls(architecture, rules, tuple(parameter_infos(model)), nnx.graphdef(model))

    def bind(self, params: PyTree) -> LanguageModel:
        """The model with `params`."""
        return nnx.merge(self.graphdef, params)

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(info.size for info in self.infos)

    def stacked(self) -> PyTree:
        """A tree like the parameters: whether the first axis counts scanned layers."""
        return self._tree(lambda info: info.is_stacked)

    def abstract_params(self) -> PyTree:
        """Shapes and shardings of the parameters."""
        return self._tree(
            lambda info: jax.ShapeDtypeStruct(
                info.shape,
                info.dtype,
                sharding=self.rules.sharding(info.shape, info.logical_axes),
            )
        )

    def abstract_state(self, transform: optax.GradientTransformation) -> TrainState:
        """Shapes and shardings of the train state with the optimizer `transform`."""
        params = self.abstract_params()
        opt_state = jax.tree_util.tree_map_with_path(
            self._place_like_parameter, jax.eval_shape(transform.init, params)
        )
        step = jax.ShapeDtypeStruct((), jnp.int32, sharding=self.rules.sharding((), ()))
        return TrainState(step=step, params=params, opt_state=opt_state)

    def init(self, transform: optax.GradientTransformation, seed: int) -> TrainState:
        """A fresh train state, made in its shardings; values do not depend on the mesh."""

        def make() -> TrainState:
            params = self.fresh_params(seed)
            return TrainState(jnp.zeros((), jnp.int32), params, transform.init(params))

        shardings = jax.tree.map(lambda x: x.sharding, self.abstract_state(transform))
        with activated(self.rules):
            return jax.jit(make, out_shardings=shardings)()

    def fresh_params(self, seed: int) -> PyTree:
        """Parameters as a new model has them; to be traced, so that they are made in place."""
        rngs = nnx.Rngs(params=jax.random.key(seed))
        return nnx.to_pure_dict(nnx.state(self.architecture.build(rngs), nnx.Param))

    def unsharded_share(self) -> float:
        """Share of the parameters that every device holds whole."""
        whole = sum(i.size for i in self.infos if self._sharding(i).is_fully_replicated)
        return whole / self.parameter_count

    def _sharding(self, info: ParameterInfo) -> jax.sharding.NamedSharding:
        return self.rules.sharding(info.shape, info.logical_axes)

    def _tree(self, value: Any) -> PyTree:
        tree: dict = {}
        for info in self.infos:
            insert(tree, info.path, value(info))
        return tree

    def parameter_of(self, path: Sequence[Any]) -> ParameterInfo | None:
        """The parameter that an optimizer slot at JAX key path `path` belongs to, if any."""
        names = tuple(_key_name(key) for key in path)
        return next((i for i in self.infos if names[-len(i.path) :] == i.path), None)

    def _place_like_parameter(
        self, path: Sequence[Any], leaf: jax.ShapeDtypeStruct
    ) -> jax.ShapeDtypeStruct:
        """An optimizer slot lies as its parameter does, less the dimension it has reduced."""
        info = self.parameter_of(path)
        axes = None if info is None else slot_axes(leaf.shape, info)
        if axes is None:
            sharding = jax.sharding.NamedSharding(self.rules.mesh, jax.sharding.PartitionSpec())
        else:
            sharding = self.rules.sharding(leaf.shape, axes)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def slot_axes(shape: tuple[int, ...], info: ParameterInfo) -> tuple[str, ...] | None:
    """Logical axes of an optimizer slot of a parameter, by its shape; None if it has another."""
    if shape == info.shape:
        return info.logical_axes
    for dropped in reversed(range(len(info.shape))):
        if shape == tuple(np.delete(info.shape, dropped)):
            return tuple(np.delete(info.logical_axes, dropped))
    return None


def _key_name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def path_name(path: Sequence[Any]) -> str:
    """A JAX key path as `a/b/c`."""
    return "/".join(_key_name(key) for key in path)


def flatten(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Leaves of a tree with their path as `a/b/c`."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield path_name(path), leaf


def per_device_bytes(tree: PyTree) -> int:
    """Bytes that one device holds of a tree of sharded (abstract) arrays."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
