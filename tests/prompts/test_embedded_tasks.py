import collections
import itertools

import pytest

from archobj_jax.data import embedded
from archobj_jax.errors import UserError
from archobj_jax.objectives import rng_for
from archobj_jax.prompts import embedded_tasks
from archobj_jax.prompts.embedded_passages import functions, passages
from archobj_jax.prompts.embedded_tasks import TASKS, examples

EVERY = [(name, split) for name, task in TASKS.items() for split in task.splits]


def texts_of(split: str) -> str:
    return "\n\n".join(document.text for document in embedded.documents(split))


def test_some_tasks_are_for_training_and_others_are_held_out():
    held_out = {name for name, task in TASKS.items() if task.held_out}
    assert len(held_out) >= 4
    assert len(TASKS) - len(held_out) >= 6


@pytest.mark.parametrize(("task", "split"), EVERY)
def test_examples_are_many_balanced_and_without_repetition(task, split):
    made = list(itertools.islice(examples(task, split), 3200))
    assert len(made) > (3000 if split == "train" else 100)
    if "label" in made[0]:
        counts = collections.Counter(example["label"] for example in made)
        assert len(counts) in (2, 4)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert len({repr(example) for example in made}) > 0.99 * len(made)


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_the_same_each_time(task):
    first, second = (list(itertools.islice(examples(task, "validation"), 50)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("task", TASKS)
def test_choices_differ_and_the_label_is_one_of_them(task):
    for example in examples(task, "validation"):
        for value in example.values():
            if isinstance(value, list) and task != "word_order":
                assert len(set(value)) == len(value) in (2, 4)
                assert 0 <= example["label"] < len(value)


@pytest.mark.parametrize(("task", "split"), EVERY)
def test_no_text_of_one_split_is_in_an_example_of_the_other(task, split):
    """All text, wrong choices too, is of documents of the split; no document is in both."""
    own = texts_of(split)
    modules = {document.name.removeprefix("module/") for document in embedded.documents(split)}
    names = {function.name for function in functions(split)} if task == "function" else set()
    for example in itertools.islice(examples(task, split), 100):
        for key, value in example.items():
            if key == "modules":
                assert modules.issuperset(value)
            elif key == "functions":
                assert names.issuperset(value)
            elif key == "word" or (key == "words" and task == "missing_word"):
                words = value if isinstance(value, list) else [value]
                assert all(word in own.lower() for word in words)
            elif key == "sentences" and task == "ordered":
                assert value[example["label"]] in own
            elif isinstance(value, list):
                assert all(text in own for text in value)
            elif isinstance(value, str) and "____" not in value:
                assert value in own


def test_no_sentence_is_in_both_splits():
    train, held_out = (
        {sentence for passage in passages(split) for sentence in passage.sentences}
        for split in embedded.SPLITS
    )
    assert held_out
    assert not train & held_out


def test_labels_are_true():
    by_text = {
        text: document.name
        for document in embedded.documents("validation")
        for text in document.text.split("\n\n")
    }
    for example in examples("same_document", "validation"):
        same = by_text[example["first"]] == by_text[example["second"]]
        assert same == example["label"]
    for example in examples("module", "validation"):
        assert by_text[example["text"]] == "module/" + example["modules"][example["label"]]
    for example in examples("uses_word", "validation"):
        assert (example["word"] in example["passage"].lower()) == example["label"]
    for example in examples("supported", "validation"):
        assert (example["statement"] in example["passage"]) == example["label"]
    own = texts_of("validation")
    for example in examples("continuation", "validation"):
        assert f"{example['beginning']} {example['endings'][example['label']]}" in own
    for example in examples("word_order", "validation"):
        assert sorted(example["words"]) == sorted(example["sentence"].split())


def test_every_task_has_several_prompts_that_render_all_its_examples():
    collection = embedded_tasks.prompts()
    assert not collection.problems
    for task, split in EVERY:
        templates = collection.of("embedded", task)
        assert len(templates) >= 3
        for index, example in enumerate(itertools.islice(examples(task, split), 60)):
            for template in templates.values():
                rendered = template.render(example, rng_for(0, index))
                assert rendered
                assert len(rendered.inputs.split()) < 400
                if rendered.answer_choices:
                    assert rendered.targets == rendered.answer_choices[example["label"]]


def test_unknown_tasks_and_splits_are_said():
    with pytest.raises(UserError, match=r"'continuatoin'.*Did you mean 'continuation'"):
        next(examples("continuatoin", "train"))
    with pytest.raises(UserError, match="'function' has no split 'train'; it has validation"):
        next(examples("function", "train"))
