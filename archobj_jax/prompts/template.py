"""One prompt: a Jinja template of PromptSource that turns a data set's example into two texts."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jinja2
import numpy as np

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.prompts import environment
from archobj_jax.prompts.budget import RefusedError
from archobj_jax.prompts.syntax import Fields
from archobj_jax.prompts.values import plain

T = TypeVar("T")

SEPARATOR = "|||"
"""Stands between input and target, and between answer choices."""

CHOICES = "answer_choices"
"""The variable by which a template finds its answer choices."""

# Stands for the separator where an example's own text holds it; PromptSource's value.
_PROTECTED = "3ed2dface8203c4c9dfb1a5dc58e41e0"
_MESSAGE = 500


class PromptError(UserError):
    """A prompt cannot be read or rendered; names it."""


@dataclass(frozen=True)
class Metadata:
    """What a prompt's author says of it.

    Attributes:
      original_task: it asks for what the data set was made for.
      choices_in_prompt: the input lists the answer choices; None where that is not said.
      metrics: names of PromptSource, such as "Accuracy".
      languages: of the prompt, not of the data (ISO 639-1).
    """

    original_task: bool = False
    choices_in_prompt: bool | None = None
    metrics: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """An example as a prompt puts it.

    Attributes:
      inputs: what the model reads, not empty.
      targets: what it is to write, not empty.
      answer_choices: the candidates for it, None for a prompt that has none.
    """

    inputs: str
    targets: str
    answer_choices: tuple[str, ...] | None


@dataclass(frozen=True)
class Template:
    """A prompt of PromptSource.

    Attributes:
      dataset: name of the data set on the Hugging Face hub.
      subset: its configuration, if it has several.
      name: of the prompt, unique within data set and subset.
      id: a UUID.
      jinja: the template of input and target, `|||` between them.
      answer_choices: the template of the choices, `|||` between them; None for open questions.
      metadata: what the author says.
      reference: whose wording it is.
    """

    dataset: str
    subset: str | None
    name: str
    id: str
    jinja: str
    answer_choices: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    reference: str = ""

    @property
    def title(self) -> str:
        """What errors call it: data set, subset and name."""
        where = "/".join(filter(None, (self.dataset, self.subset)))
        return f"prompt '{self.name}' of {where}"

    def check(self) -> None:
        """Raises PromptError unless both templates are Jinja that a prompt may use."""
        self._naming(lambda: environment.check(self.jinja))
        self._naming(lambda: environment.check(self.answer_choices or ""))

    def fields(self) -> frozenset[str]:
        """Returns the fields of an example that the templates read.

        Raises:
          PromptError: a template is not valid.
        """
        return self._fields().read

    def missing_fields(self, example: Collection[str]) -> list[str]:
        """Returns the fields that the templates cannot do without and `example` lacks, sorted.

        Raises:
          PromptError: a template is not valid.
        """
        return sorted(self._fields().required - {name.replace("-", "_") for name in example})

    def render(self, example: Mapping[str, Any], rng: np.random.Generator) -> Rendered | None:
        """Returns the example as this prompt puts it, as PromptSource and T0 do.

        `|||` in the example's texts is kept apart from the templates' own, printed values are cut
        to 2,048 characters, input and target are stripped. A `-` in a field's name reads as `_`.

        Args:
          example: the fields, of the kinds that `values.plain` takes; never changed.
          rng: for the filters `choice` and `random`; `rng_for(seed, index)` for data.

        Returns:
          None where T0 leaves the example out: input or target is empty, or there are not exactly
          two parts. (PromptSource's seven prompts with several `|||` have one in each branch.)

        Raises:
          PromptError: the example lacks a field, or a template fails on it or costs too much.
        """
        variables = self._variables(example)
        choices = self._naming(lambda: self._choices(variables, rng))
        variables[CHOICES] = None if choices is None else list(choices)
        template = self._naming(lambda: environment.compiled(self.jinja, cut=True))
        parts = _split(self._naming(lambda: environment.render(template, variables, rng)))
        if len(parts) != 2 or not all(parts):
            return None
        return Rendered(parts[0], parts[1], choices)

    def fixed_choices(self) -> tuple[str, ...] | None:
        """Returns the answer choices if they are the same for every example.

        Raises:
          PromptError: their template is not valid.
        """
        source = self.answer_choices
        if source is None or self._naming(lambda: environment.fields(source)).read:
            return None
        return self._naming(lambda: self._choices({}, np.random.default_rng(0)))

    def _fields(self) -> Fields:
        prompt = self._naming(lambda: environment.fields(self.jinja))
        choices = self._naming(lambda: environment.fields(self.answer_choices or ""))
        return Fields(
            (prompt.read | choices.read) - {CHOICES},
            (prompt.required | choices.required) - {CHOICES},
        )

    def _variables(self, example: Mapping[str, Any]) -> dict[str, Any]:
        try:
            variables = {name.replace("-", "_"): plain(value) for name, value in example.items()}
        except TypeError as error:
            raise PromptError(f"{self.title}: {error}") from error
        if CHOICES in variables:
            raise PromptError(
                f"{self.title}: the example has a field '{CHOICES}', the name under which a "
                "template finds its choices; expected another name"
            )
        for name in self.missing_fields(variables):
            raise PromptError(
                f"{self.title} reads the field '{name}', which the example lacks."
                f"{did_you_mean(name, variables)} It has {', '.join(sorted(variables))}"
            )
        return {
            name: value.replace(SEPARATOR, _PROTECTED) if isinstance(value, str) else value
            for name, value in variables.items()
        }

    def _choices(
        self, variables: Mapping[str, Any], rng: np.random.Generator
    ) -> tuple[str, ...] | None:
        if self.answer_choices is None:
            return None
        template = environment.compiled(self.answer_choices)
        return tuple(_split(environment.render(template, variables, rng)))

    def _naming(self, action: Callable[[], T]) -> T:
        """Returns what `action` returns; what it raises becomes a PromptError with our title."""
        try:
            return action()
        except (RefusedError, jinja2.TemplateError) as error:
            raise PromptError(f"{self.title} {_reason(error)}") from error
        except Exception as error:  # whatever a template's operations may raise
            reason = _short(f"{type(error).__name__}: {error}")
            raise PromptError(f"{self.title} fails: {reason}") from error


def _split(text: str) -> list[str]:
    return [part.replace(_PROTECTED, SEPARATOR).strip() for part in text.split(SEPARATOR)]


def _reason(error: Exception) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"is not Jinja: line {error.lineno}: {error.message}"
    if isinstance(error, jinja2.UndefinedError):
        return _short(f"fails: {error}")
    return f"is refused: it {error}"


def _short(message: str) -> str:
    """Returns `message`, which may quote a whole value, cut to what a reader reads."""
    return message if len(message) <= _MESSAGE else message[:_MESSAGE] + "…"
