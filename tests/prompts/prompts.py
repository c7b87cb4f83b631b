"""Prompts for tests, from the text of a template."""

from archobj_jax.prompts import Template


def prompt(jinja: str, answer_choices: str | None = None) -> Template:
    """Returns a prompt of data set 'tests'."""
    return Template("tests", None, "one", "id", jinja, answer_choices)
