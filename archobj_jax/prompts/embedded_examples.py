"""How the examples of each embedded task are made from passages of one split.

Each maker yields the fields that the task's templates read. What decides a label is drawn from
generators keyed by the task, the split and the example; labels go round, so that each is as
frequent as the others. All text of an example, wrong choices too, comes from its own split.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from archobj_jax.prompts.embedded_passages import WORD, functions, passages, words

Example = dict[str, Any]
Draws = Callable[[int], np.random.Generator]
"""Returns the generator of an example, by its number."""

T = TypeVar("T")
Sourced = TypeVar("Sourced", bound=tuple[Any, ...])

CHOICES = 4
"""Answer choices, where they are not yes and no."""


def continuation(split: str, draws: Draws) -> Iterator[Example]:
    """Choose the true continuation of a beginning among four."""
    for beginning, endings, label in _halves(split, draws):
        yield {"beginning": beginning, "endings": endings, "label": label}


def beginning(split: str, draws: Draws) -> Iterator[Example]:
    """Choose the true beginning of an ending among four."""
    for ending, beginnings, label in _halves(split, draws, reverse=True):
        yield {"ending": ending, "beginnings": beginnings, "label": label}


def module(split: str, draws: Draws) -> Iterator[Example]:
    """Say which of four modules a paragraph documents; the paragraph does not name it."""
    named = [
        passage
        for passage in passages(split)
        if passage.module and passage.module.rpartition(".")[2].lower() not in passage.text.lower()
    ]
    modules = sorted({passage.module for passage in named if passage.module})
    for number, passage in enumerate(named):
        label = number % CHOICES
        others = [name for name in modules if name != passage.module]
        wrong = _draw(draws(number), others, CHOICES - 1)
        choices = _placed(passage.module, wrong, label)
        yield {"text": passage.text, "modules": choices, "label": label}


def missing_word(split: str, draws: Draws) -> Iterator[Example]:
    """Say which of four words is missing from a sentence; the others occur in other sentences."""
    sentences = [s for passage in passages(split) for s in passage.sentences if words(s)]
    vocabulary = sorted({word.lower() for sentence in sentences for word in words(sentence)})
    for number, sentence in enumerate(sentences):
        rng, label = draws(number), number % CHOICES
        gap = _pick(rng, list(WORD.finditer(sentence)))
        others = [w for w in _draw(rng, vocabulary, 24) if w not in sentence.lower()]
        word = gap.group().lower()
        yield {
            "sentence": sentence[: gap.start()] + "____" + sentence[gap.end() :],
            "words": _placed(word, others[: CHOICES - 1], label),
            "label": label,
        }


def word_order(split: str, draws: Draws) -> Iterator[Example]:
    """Put the words of a short sentence in order."""
    for number, sentence in enumerate(_short_sentences(split)):
        yield {"words": _shuffled(draws(number), sentence.split()), "sentence": sentence}


def ordered(split: str, draws: Draws) -> Iterator[Example]:
    """Say which of two is a sentence; the other is made of the same words."""
    for number, sentence in enumerate(_short_sentences(split)):
        label = number % 2
        wrong = " ".join(_shuffled(draws(number), sentence.split()))
        yield {"sentences": _placed(sentence, [wrong], label), "label": label}


def follows(split: str, draws: Draws) -> Iterator[Example]:
    """Say whether one sentence follows another; if not, it is from another document."""
    pairs = [
        (passage.document, *pair)
        for passage in passages(split)
        for pair in itertools.pairwise(passage.sentences)
    ]
    for number, (document, first, second) in enumerate(pairs):
        label = number % 2
        shown = second if label else _elsewhere(draws(number), pairs, document)[2]
        yield {"first": first, "second": shown, "label": label}


def uses_word(split: str, draws: Draws) -> Iterator[Example]:
    """Say whether a passage uses a word; if not, a passage of another document does."""
    everything = [passage for passage in passages(split) if words(passage.text)]
    for number, passage in enumerate(everything):
        rng, label = draws(number), number % 2
        choices = words(passage.text) if label else []
        while not choices:
            other = _elsewhere(rng, everything, passage.document)
            own = passage.text.lower()
            choices = [word for word in words(other.text) if word.lower() not in own]
        yield {"passage": passage.text, "word": _pick(rng, choices).lower(), "label": label}


def same_document(split: str, draws: Draws) -> Iterator[Example]:
    """Say whether two passages are from one document: neighbours, or of different ones."""
    everything = passages(split)
    pairs = [
        pair for pair in itertools.pairwise(everything) if pair[0].document == pair[1].document
    ]
    for number, (first, second) in enumerate(pairs):
        label = number % 2
        shown = second if label else _elsewhere(draws(number), everything, first.document)
        yield {"first": first.text, "second": shown.text, "label": label}


def supported(split: str, draws: Draws) -> Iterator[Example]:
    """Say whether a passage supports a statement: one of its sentences, or another document's."""
    statements = [
        (passage.document, passage.text, sentence)
        for passage in passages(split)
        for sentence in passage.sentences
        if len(passage.sentences) > 1
    ]
    for number, (document, passage, statement) in enumerate(statements):
        label = number % 2
        shown = statement if label else _elsewhere(draws(number), statements, document)[2]
        yield {"passage": passage, "statement": shown, "label": label}


def odd_one_out(split: str, draws: Draws) -> Iterator[Example]:
    """Say which of four sentences is from another document than the others."""
    by_document: dict[str, list[str]] = {}
    for passage in passages(split):
        by_document.setdefault(passage.document, []).extend(passage.sentences)
    groups = [
        (document, sentences[start : start + CHOICES - 1])
        for document, sentences in by_document.items()
        for start in range(len(sentences) - CHOICES + 2)
    ]
    for number, (document, alike) in enumerate(groups):
        label = number % CHOICES
        _, other = _elsewhere(draws(number), groups, document)
        yield {"sentences": _placed(other[0], alike, label), "label": label}


def function(split: str, draws: Draws) -> Iterator[Example]:
    """Say which of four functions a description is of."""
    described = functions(split)
    for number, each in enumerate(described):
        label = number % CHOICES
        names = [other.name for other in described if other.name != each.name]
        wrong = _draw(draws(number), names, CHOICES - 1)
        yield {
            "description": each.description,
            "functions": _placed(each.name, wrong, label),
            "label": label,
        }


def _halves(
    split: str, draws: Draws, *, reverse: bool = False
) -> Iterator[tuple[str, list[str], int]]:
    """Yields halves of sentences, four of the other halves, and which of these is the true one."""
    halves = [_halved(s) for passage in passages(split) for s in passage.sentences]
    for number, (first, second) in enumerate(halves):
        label = number % CHOICES
        given, true = (second, first) if reverse else (first, second)
        candidates = [halves[i] for i in draws(number).integers(len(halves), size=24)]
        others = [first if reverse else second for first, second in candidates]
        wrong = [half for half in dict.fromkeys(others) if half != true]
        yield given, _placed(true, wrong[: CHOICES - 1], label), label


def _halved(sentence: str) -> tuple[str, str]:
    parts = sentence.split()
    return " ".join(parts[: len(parts) // 2]), " ".join(parts[len(parts) // 2 :])


def _short_sentences(split: str) -> list[str]:
    sentences = [sentence for passage in passages(split) for sentence in passage.sentences]
    return [sentence for sentence in sentences if len(set(sentence.split())) in range(5, 13)]


def _elsewhere(rng: np.random.Generator, items: Sequence[Sourced], document: str) -> Sourced:
    """Returns one of `items`, tuples that begin with their document, that is of another one."""
    while (item := _pick(rng, items))[0] == document:
        pass
    return item


def _pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _draw(rng: np.random.Generator, items: Sequence[T], count: int) -> list[T]:
    """Returns `count` different ones of `items`."""
    return [items[i] for i in rng.choice(len(items), size=min(count, len(items)), replace=False)]


def _shuffled(rng: np.random.Generator, parts: list[str]) -> list[str]:
    """Returns `parts` in an order that is not theirs."""
    while (order := [parts[i] for i in rng.permutation(len(parts))]) == parts:
        pass
    return order


def _placed(true: T, wrong: Sequence[T], label: int) -> list[T]:
    return [*wrong[:label], true, *wrong[label:]]
