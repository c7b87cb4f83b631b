"""Templates that mean harm: each is refused, named, and soon."""

import time
import tracemalloc

import pytest

from archobj_jax.objectives import rng_for
from archobj_jax.prompts import PromptError
from tests.prompts.prompts import prompt

DOUBLE = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
NESTED = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"

HOSTILE = {
    "long range": "{% for i in range(10**9) %}x{% endfor %}",
    "nested loops": NESTED + "{% endfor %}" * 3,
    "nested loops that print": NESTED + "long text " * 50 + "{% endfor %}" * 3,
    "loop with a filter": "{% for i in range(99999) if i in range(99999) | list %}{% endfor %}",
    "many statements a turn": "{% for i in range(99999) %}"
    + "{% set a = i %}" * 900
    + "{% endfor %}",
    "repeated text": "{{ ('a' * 10**9) }}",
    "repeated list": "{{ ([0] * 10**9) | length }}",
    "repeated from the left": "{{ (10**9 * 'a') | length }}",
    "power": "{{ (9 ** (10 ** 9)) }}",
    "product of numbers": "{% set ns = namespace(x=99) %}{% for i in range(99) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "width by %": "{{ '%1000000000d' % 1 }}",
    "width from the arguments": "{{ '%*d' % (1000000000, 1) }}",
    "precision": "{{ '%.1000000000f' % 1.0 }}",
    "width by filter": "{{ '%1000000000d' | format(1) }}",
    "width by name": "{{ '%(a)1000000000d' | format(a=1) }}",
    "many values": "{{ ('%(a)s' * 9000) | format(a='x' * 100000) }}",
    "width by method": "{{ '{:1000000000}'.format(1) }}",
    "padding": "{{ 'a'.ljust(1000000000) }}",
    "doubled by ~": DOUBLE + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubled by +": DOUBLE + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubled by join": DOUBLE + "{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
    "joined by a long text": "{{ range(99999) | join('a' * 100000) }}",
    "joined by method": "{{ ('a' * 100000).join('b' * 100000) }}",
    "replaced": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "replaced by method": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "list in itself": "{% set x = [] %}{{ x.append(x) }}{{ x == [x] }}{{ x }}",
    "shared lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "shared tuples": "{% set ns = namespace(x=(1, 2)) %}{% for i in range(60) %}"
    "{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} | length }}",
    "built from the outside": "{% set a = [] %}{% set ns = namespace(x=a) %}"
    "{% for i in range(60) %}{% set b = [] %}{{ ns.x.append(b) }}{{ ns.x.append(b) }}"
    "{% set ns.x = b %}{% endfor %}{{ a }}",
    "compared": "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(40) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    "deep list": "{% set ns = namespace(x=[]) %}{% for i in range(50000) %}{% set ns.x = [ns.x] %}"
    "{% endfor %}{{ ns.x }}",
    "sorted often": "{% for i in range(99999) %}{{ range(50000) | sort | length }}{% endfor %}",
    "sum of lists": "{{ ([[1] * 1000] * 1000) | sum(start=[]) }}",
    "rounded": "{{ 1.5 | round(1000000000) }}",
    "stripped": "{{ ('a' * 500000) | trim('b' * 500000 ~ 'a') }}",
    "stripped by method": "{{ ('a' * 500000).strip('b' * 500000 ~ 'a') }}",
    "found from the right": "{{ ('a' * 500000).rfind('a' * 90000 ~ 'b' ~ 'a' * 90000) }}",
    "digits in a format": "{{ ('1' * 500000) % 1 }}",
    "flags in a format": "{{ ('%' ~ '0' * 500000) % 1 }}",
    "found in a range": "{% for i in range(99999) %}{{ 'a' in range(99999) }}{% endfor %}",
    "least of a range": "{% for i in range(99999) %}{{ range(99999) | min }}{% endfor %}",
    "numbers that hash alike": "{% set d = {} %}{% for i in range(99999) %}"
    "{% set _ = d.update({i * 2305843009213693951: 1}) %}{% endfor %}",
    "numbers that hash alike, by sum": "{{ ([2305843009213693951] * 20) | sum }}",
    "numbers that hash alike, by text": "{{ ('10' * 200) | int(base=2) }}",
    "long number": "{{ ('1' * 500000) | float }}",
    "binary number": "{{ ('1' * 500000) | int(base=2) }}",
    "more budget": "{{ [[1]] | map(' each', -1000000000) | map('list') | list }}",
    "class": "{{ ''.__class__ }}",
    "class by key": "{{ ''['__class__'] }}",
    "class by a made key": "{{ ''['__cl' ~ 'ass__'] }}",
    "class by filter": "{{ '' | attr('__class__') }}",
    "class by map": "{{ [''] | map(attribute='__class__') | list }}",
    "class by sort": "{{ ['', 'a'] | sort(attribute='__class__') }}",
    "globals of a function": "{{ range.__globals__ }}",
    "globals of a loop": "{% for i in 'ab' %}{{ loop._iterable }}{% endfor %}",
    "environment": "{{ self._TemplateReference__context }}",
    "method that is not listed": "{{ 'a'.encode() }}",
    "not a function": "{{ 'a'() }}",
    "endless macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'x' %}",
    "captured text": "{% set x %}{{ 1 }}{% endset %}",
    "random text": "{{ lipsum(n=10**9) }}",
    "unknown filter": "{{ 'a' | center(10**9) }}",
    "huge number": "{{ " + "9" * 20000 + " }}",
    "huge template": "x" * 40000,
    "many parts": "{{ 1" + " + 1" * 9000 + " }}",
    "deep parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "deep loops": "{% for i in [1] %}" * 50 + "{% endfor %}" * 50,
    "deep brackets": "{{ " + "[" * 250 + "]" * 250 + " }}",
    "unfinished": "{% if x %}",
}
# What refuses those that Jinja or Python refuse by themselves; the others are `refused`.
ELSEWHERE = {
    "long range": "Range too big",
    "deep list": "RecursionError",
    "random text": "reads the field 'lipsum'",
    "digits in a format": "not all arguments converted",
    "flags in a format": "incomplete format",
    "huge number": "Exceeds the limit",
    "deep parentheses": "RecursionError",
    "deep loops": "too many statically nested blocks",
    "deep brackets": "RecursionError",
    "unfinished": "is not Jinja",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_an_error_that_names_it(name):
    template = prompt(HOSTILE[name] + " ||| target")
    start = time.monotonic()
    reason = ELSEWHERE.get(name, "is refused: it ")
    with pytest.raises(PromptError, match=f"^prompt 'one' of tests .*{reason}"):
        template.render({}, rng_for(0, 0))
    assert time.monotonic() - start < 10  # a second's work, on however busy a machine


@pytest.mark.parametrize("name", ["repeated text", "doubled by ~", "many values", "shared lists"])
def test_a_hostile_template_takes_little_memory(name):
    tracemalloc.start()
    with pytest.raises(PromptError):
        prompt(HOSTILE[name] + " ||| target").render({}, rng_for(0, 0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20


def test_hostile_answer_choices_are_refused_too():
    with pytest.raises(PromptError, match=r"makes a value|would make a value"):
        prompt("a ||| b", "{{ 'a' * 10**9 }}").render({}, rng_for(0, 0))


def test_the_bound_is_the_same_each_time():
    messages = set()
    for _ in range(2):
        with pytest.raises(PromptError) as caught:
            prompt(HOSTILE["nested loops"] + "|||").render({}, rng_for(0, 0))
        messages.add(str(caught.value))
    assert messages == {"prompt 'one' of tests is refused: it takes more than 500,000 steps"}


def test_a_large_document_is_no_harm():
    text = "Some sentence of a long report. " * 6000
    jinja = "{% for s in text.split('.')[:50] if s in text %}{{ s }}{% endfor %} ||| {{ text }}"
    assert len(prompt(jinja).render({"text": text}, rng_for(0, 0)).inputs) > 1000
