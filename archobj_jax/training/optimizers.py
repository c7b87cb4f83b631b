"""Optimizers by configuration: T5X's Adafactor, and AdamW and Muon as optax keeps them.

Each is a frozen dataclass of hyperparameters; `build` makes the optax transformation for a tree of
parameters, given which of them are stacked over scanned layers.
"""

import dataclasses
from typing import Any, Protocol

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from archobj_jax.training.adafactor import AdafactorRule, adafactor

PyTree = Any


class Optimizer(Protocol):
    """Makes an optax transformation."""

    def build(self, learning_rate: optax.Schedule, stacked: PyTree) -> optax.GradientTransformation:
        """`stacked` is a tree like the parameters, true where the first axis counts layers."""


@dataclasses.dataclass(frozen=True)
class Adafactor(AdafactorRule):
    """T5X's Adafactor, the study's optimizer."""

    def build(self, learning_rate: optax.Schedule, stacked: PyTree) -> optax.GradientTransformation:
        """See `Optimizer`."""
        return adafactor(learning_rate, self, stacked)


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW (optax). Wants `Loss.normalization = "tokens"`.

    Attributes:
      b1, b2, eps, weight_decay: as `optax.adamw`; only kernels and embeddings decay.
      clip_global_norm: gradients are scaled down to this global norm; None does not clip.
    """

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_global_norm: float | None = 1.0

    def build(self, learning_rate: optax.Schedule, stacked: PyTree) -> optax.GradientTransformation:
        """See `Optimizer`."""
        del stacked
        transform = optax.adamw(
            learning_rate,
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            mask=_decayed,
        )
        return _clipped(transform, self.clip_global_norm)


@dataclasses.dataclass(frozen=True)
class Muon:
    """Muon (optax) for the kernels of the layers, Adam with Nesterov momentum for all else.

    Wants `Loss.normalization = "tokens"`.

    Attributes:
      beta, weight_decay: as `optax.contrib.muon`; updates are scaled to AdamW's RMS (0.2), so that
        AdamW's learning rates serve.
      clip_global_norm: as for `AdamW`.
    """

    beta: float = 0.95
    weight_decay: float = 0.1
    clip_global_norm: float | None = 1.0

    def build(self, learning_rate: optax.Schedule, stacked: PyTree) -> optax.GradientTransformation:
        """See `Optimizer`. Each layer's matrix is orthogonalised on its own."""

        def dimensions(params: PyTree) -> PyTree:
            # Optax asks again in each update, with what Adam takes masked out.
            return jax.tree_util.tree_map_with_path(
                _muon_dimensions, params, stacked, is_leaf=_is_masked
            )

        transform = muon(
            learning_rate,
            beta=self.beta,
            weight_decay=self.weight_decay,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=dimensions,
        )
        return _clipped(transform, self.clip_global_norm)


def _decayed(params: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _muon_dimensions(
    path: tuple[Any, ...], param: jax.Array | optax.MaskedNode, stacked: bool
) -> MuonDimensionNumbers | None:
    """Dimensions of a kernel [N, in, out]; None for embeddings, norms, positions and logits."""
    if _is_masked(param) or not stacked or path[-1].key != "kernel":
        return None
    return MuonDimensionNumbers(reduction_axis=1, output_axis=2)


def _clipped(
    transform: optax.GradientTransformation, norm: float | None
) -> optax.GradientTransformation:
    return transform if norm is None else optax.chain(optax.clip_by_global_norm(norm), transform)
