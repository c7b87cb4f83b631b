"""How PromptSource itself renders: plain Jinja with no sandbox, to compare ours with.

Only `choice` and `random` differ from it: they draw from the generator that ours draws from.
"""

import copy

import jinja2
import numpy as np

from archobj_jax.prompts import Template

_PROTECTED = "<protected separator>"


def render(template: Template, example: dict, rng: np.random.Generator) -> list[str]:
    """Returns what the template makes of the example, split at `|||`."""
    environment = _environment(rng)
    variables = {
        name: value.replace("|||", _PROTECTED) if isinstance(value, str) else value
        for name, value in copy.deepcopy(example).items()
    }
    choices = None
    if template.answer_choices is not None:
        text = environment.from_string(template.answer_choices).render(**variables)
        choices = [part.replace(_PROTECTED, "|||").strip() for part in text.split("|||")]
    source = template.jinja.replace("}}", " | string | truncate(2048) }}")
    text = environment.from_string(source).render(**variables, answer_choices=choices)
    return [part.replace(_PROTECTED, "|||").strip() for part in text.split("|||")]


def _environment(rng: np.random.Generator) -> jinja2.Environment:
    def choice(items):
        return items[int(rng.integers(len(items)))]

    def most_frequent(items):
        counts = {item: list(items).count(item) for item in items}
        return [item for item in counts if counts[item] == max(counts.values())] or None

    environment = jinja2.Environment()
    environment.globals["zip"] = zip
    environment.filters |= {"choice": choice, "random": choice, "most_frequent": most_frequent}
    environment.filters["highlight"] = lambda x: "<span style='color: #F08080'>" + x + "</span>"
    return environment
