import copy
import pickle

import numpy as np
import pytest

from archobj_jax.objectives import rng_for
from archobj_jax.prompts import PromptError, Rendered
from tests.prompts import original
from tests.prompts.prompts import prompt


def render(jinja, example=None, choices=None, seed=0):
    return prompt(jinja, choices).render(example or {}, rng_for(seed, 0))


def test_input_and_target_are_split_and_stripped():
    rendered = render(" Say {{word}}. \n|||\n {{word | upper}} ", {"word": "hello"})
    assert rendered == Rendered("Say hello.", "HELLO", None)


def test_answer_choices_are_rendered_split_and_given_to_the_template():
    rendered = render(
        "{{a}} or {{b}}? ||| {{answer_choices[label]}}",
        {"a": "tea", "b": "coffee", "label": 1},
        " {{a}} ||| {{b}} ",
    )
    assert rendered == Rendered("tea or coffee?", "coffee", ("tea", "coffee"))


def test_a_separator_in_the_data_is_text():
    rendered = render("{{a}} ||| {{b}}", {"a": "x ||| y", "b": "|||"}, "{{a}}|||z")
    assert rendered == Rendered("x ||| y", "|||", ("x ||| y", "z"))


@pytest.mark.parametrize(
    ("jinja", "label"),
    [
        ("a ||| {% if label == 1 %}b{% endif %}", 0),  # no target
        (" ||| {{label}}", 0),  # no input
        ("{% if label == 1 %}a ||| b{% endif %}", 0),  # nothing
        ("a ||| b ||| {{label}}", 0),  # three parts
    ],
)
def test_examples_that_t0_leaves_out_give_none(jinja, label):
    assert render(jinja, {"label": label}) is None


def test_each_branch_may_have_its_separator():
    jinja = "{% if label %}a ||| b{% else %}c ||| d{% endif %}"
    assert render(jinja, {"label": 0}).targets == "d"
    assert render(jinja, {"label": 1}).inputs == "a"


def test_printed_values_are_cut_at_a_word():
    words = "word " * 1000
    rendered = render("{{text}} ||| {{text | length}}", {"text": words})
    assert len(rendered.inputs) <= 2048
    assert rendered.inputs.endswith("word...")
    assert rendered.targets == "5000"


def test_a_minus_in_a_field_reads_as_an_underscore():
    assert render("{{a_b}} ||| c", {"a-b": 3}).inputs == "3"


def test_choice_and_random_follow_the_generator():
    jinja = "{{range(1000) | choice}} ||| {{range(1000) | random}}"
    assert render(jinja, seed=1) == render(jinja, seed=1) != render(jinja, seed=2)


def test_promptsource_s_own_filters_and_function():
    rendered = render(
        "{{'x' | highlight}} ||| {{['b', 'a', 'a', 'b', 'c'] | most_frequent | join}}"
        "{% for a, b in zip([1, 2], 'xy') %}{{a}}{{b}}{% endfor %}"
    )
    assert rendered.inputs == "<span style='color: #F08080'>x</span>"
    assert rendered.targets == "ba1x2y"


def test_fields_are_what_the_templates_read():
    jinja = "{% set y = x %}{% for i in range(2) %}{{y}}{{z.w}}{% endfor %} ||| {{answer_choices}}"
    assert prompt(jinja, "{{c}} ||| {{z}}").fields() == {"x", "z", "c"}


def test_fixed_choices_are_those_that_read_nothing():
    assert prompt("a ||| b", "yes ||| no").fixed_choices() == ("yes", "no")
    assert prompt("a ||| b", "{{x}} ||| no").fixed_choices() is None
    assert prompt("a ||| b").fixed_choices() is None


def test_a_missing_field_is_named():
    with pytest.raises(PromptError, match=r"'one' of tests reads the field 'questoin'.*'question'"):
        render("{{questoin}} ||| x", {"question": "?"})


def test_a_field_that_may_be_missing_is_not_an_error():
    jinja = "{% if hint is defined %}{{hint}}{% endif %}{{note | default('none')}} ||| x"
    assert render(jinja, {}).inputs == "none"


def test_what_fails_on_an_example_is_named():
    with pytest.raises(PromptError, match=r"fails: .*has no attribute 'split'"):
        render("{{x.split()}} ||| x", {"x": 3})
    with pytest.raises(PromptError, match="field 'answer_choices'"):
        render("{{x}} ||| x", {"x": 3, "answer_choices": []})
    with pytest.raises(PromptError, match="type complex"):
        render("{{x}} ||| x", {"x": 3j})


def test_errors_do_not_quote_whole_values():
    with pytest.raises(PromptError) as caught:
        render("{{['a'].index(text)}} ||| x", {"text": "long " * 10_000})
    assert len(str(caught.value)) < 1000


def test_the_example_is_not_changed():
    example = {"items": [1], "more": {"a": [2]}}
    before = copy.deepcopy(example)
    rendered = render(
        "{{items.append(2) or ''}}{{more.update({'b': 1}) or ''}}{{items}} ||| x", example
    )
    assert rendered.inputs == "[1, 2]"
    assert example == before


def test_arrays_read_as_lists():
    example = {"x": np.array([3, 4]), "y": np.float32(0.5), "z": (b"bytes",)}
    assert render("{{x}} {{y}} {{z[0]}} ||| t", example).inputs == "[3, 4] 0.5 bytes"


def test_a_prompt_can_be_sent_to_a_worker():
    template = prompt("{{a}} ||| b")
    template.render({"a": 1}, rng_for(0, 0))
    assert pickle.loads(pickle.dumps(template)) == template


@pytest.mark.parametrize(
    "jinja",
    [
        "{{ 'a' if x else text }} ||| {{ text + text }}",
        "{{ text ~ x }} ||| {{ (x + 1) }}",
        "{{ [text, x] }} ||| {{ {'k': x}['k'] }}",
        "{% for w in text.split() if w %}"
        "{{loop.index}}{{loop.last}}{{w}}{% else %}none{% endfor %}|||t",
        "{%- for a in items | sort -%} {{ a }} {%- endfor -%} "
        "||| {{ items | map('string') | join }}",
        "{% set ns = namespace(n=0) %}{% for i in items %}"
        "{% set ns.n = ns.n + i %}{% endfor %}{{ns.n}}|||t",
        "{{ '%.2f' | format(x) }} ||| {{ x is odd }} {{ items[1:] }} {{ items[-1] * 2 }}",
        "{{ items | select('gt', 1) | list }} "
        "||| {{ text | replace('w', 'ww') | title | truncate(20) }}",
    ],
)
def test_rendering_equals_plain_jinja(jinja):
    example = {"x": 5, "text": "word " * 600, "items": [3, 1, 2]}
    rendered = render(jinja, example)
    assert [rendered.inputs, rendered.targets] == original.render(
        prompt(jinja), example, rng_for(0, 0)
    )
