"""Tiny programs run for milliseconds and compile for seconds: here the compiler may be quick."""

import contextlib
from collections.abc import Iterator

import jax
import pytest


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """What is compiled meanwhile is hardly optimised."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def quick_compiler() -> Iterator[None]:
    with quickly():
        yield
