"""Compiles a step once a run, and keeps compiled steps between runs."""

import os
from collections.abc import Callable
from typing import Any

import jax

DEFAULT_CACHE_DIR = "runs/cache/xla"


def use_cache(folder: str | None) -> None:
    """Keeps compiled programs in `folder` (local or gs://) for later runs; None keeps none.

    JAX finds them again by program, compiler version, devices and flags. Seed and schedule are
    constants of a train step's program, so another one is compiled anew.
    """
    if folder is None:
        return
    absolute = folder if "://" in folder else os.path.abspath(folder)
    jax.config.update("jax_compilation_cache_dir", absolute)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def lower_step(step: Callable, state: Any, batch: Any) -> jax.stages.Lowered:
    """Traces a train step, with its state donated.

    Args:
      step: `Trainer.train_step`.
      state: abstract, with shardings; the step's result lies likewise.
      batch: abstract, with shardings.
    """
    shardings = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None)).lower(state, batch)


def compile_step(step: Callable, state: Any, batch: Any) -> jax.stages.Compiled:
    """Compiles a train step ahead of its first call, see `lower_step`."""
    return lower_step(step, state, batch).compile()
