"""All of PromptSource's templates, where PROMPTSOURCE_TEMPLATES names a folder of them."""

import itertools
import os

import numpy as np
import pytest

from archobj_jax.prompts import PromptCollection, PromptError, Template
from tests.prompts import original, synthetic

FOLDER = os.environ.get("PROMPTSOURCE_TEMPLATES")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="PROMPTSOURCE_TEMPLATES names no folder of PromptSource's templates"
)

# What no rule makes: texts of a certain form, and lists that speak of one another.
BY_HAND = {
    "cbt": {"title": "Some_Author___A_Title.txt.out", "content": "Once upon a time."},
    "openai_humaneval": {
        "prompt": "def f(x):",
        "canonical_solution": "return x",
        "entry_point": "f",
        "test": "def check(f):\n  assert f(1) == 1",
    },
    "piqa": {"goal": "Open it", "label": 1, "sol1": "Pull.", "sol2": "Push."},
    "scientific_papers": {
        "abstract": "It is short.",
        "article": "One .\nTwo .\nThree .\nFour .\nFive .\n",
    },
    "selqa": {"question": "Why?", "candidates": ["Because.", "So."], "answers": [0]},
}


def outcome(template: Template) -> str:
    """Renders examples until one gives a text, each as PromptSource would; returns what came."""
    found = "nothing"
    made = synthetic.examples(template)
    by_hand = BY_HAND.get(template.dataset, {})
    if template.fields() <= by_hand.keys():
        made = itertools.chain([by_hand], made)
    for example in made:
        try:
            expected = original.render(template, example, np.random.default_rng(5))
        except Exception:
            with pytest.raises(PromptError):
                template.render(example, np.random.default_rng(5))
            continue
        rendered = template.render(example, np.random.default_rng(5))
        if rendered:
            assert [rendered.inputs, rendered.targets] == expected
            return "text"
        assert len(expected) != 2 or not all(expected)
        found = "left out"
    return found


@pytest.mark.slow
def test_all_parse_and_render_as_the_original_does():
    collection = PromptCollection.read(FOLDER)
    assert (len(collection.prompts), len(collection), collection.problems) == (279, 2085, {})
    others = {
        template.title: found for template in collection if (found := outcome(template)) != "text"
    }
    assert not others


def test_prompts_with_several_separators_have_one_in_each_branch():
    collection = PromptCollection.read(FOLDER)
    several = [template for template in collection if template.jinja.count("|||") > 1]
    assert len(several) == 7
    assert all(outcome(template) == "text" for template in several)
