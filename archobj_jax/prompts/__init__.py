"""PromptSource's templates: read, checked, and rendered in a sandbox."""

from archobj_jax.prompts.collection import PromptCollection
from archobj_jax.prompts.template import Metadata, PromptError, Rendered, Template

__all__ = ["Metadata", "PromptCollection", "PromptError", "Rendered", "Template"]
