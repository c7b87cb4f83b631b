"""Objectives, and the layouts that turn their examples into model arrays."""

from archobj_jax.objectives.as_given import AsGiven
from archobj_jax.objectives.full_lm import FullLm
from archobj_jax.objectives.layouts import DecoderLayout, EncoderDecoderLayout, Layout
from archobj_jax.objectives.objective import Example, Lengths, Objective, Vocabulary, rng_for
from archobj_jax.objectives.prefix_lm import PrefixLm
from archobj_jax.objectives.span_corruption import SpanCorruption
from archobj_jax.objectives.window_objective import WindowObjective

__all__ = [
    "AsGiven",
    "DecoderLayout",
    "EncoderDecoderLayout",
    "Example",
    "FullLm",
    "Layout",
    "Lengths",
    "Objective",
    "PrefixLm",
    "SpanCorruption",
    "Vocabulary",
    "WindowObjective",
    "rng_for",
]
