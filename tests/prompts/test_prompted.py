"""The registered tasks: names, elements, mixtures, and what is wrong with a data set."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import seqio

from archobj_jax.data import cache, declaration, registry
from archobj_jax.errors import UserError
from archobj_jax.objectives import AsGiven
from archobj_jax.prompts import PromptCollection, PromptError, t0
from archobj_jax.prompts.records import LocalRecords
from archobj_jax.prompts.source import PromptedSource
from tasks.prompted import (
    register_dataset,
    register_held_out,
    register_mixture,
    register_t0,
    with_fields_of,
)

FOLDER = Path(__file__).parent / "templates"
PLANETS = [
    {"planet": "Mars", "moons": ["Phobos", "Deimos"], "label": 0},
    {"planet": "Venus", "moons": [], "label": 0},
    {"planet": "Jupiter", "moons": ["Io", "Europa"], "label": 1},
]
VOCABULARY = seqio.ByteVocabulary()


@pytest.fixture
def registries() -> Iterator[None]:
    """Forgets the tasks and mixtures that a test registers."""
    kept = {each: set(each.names()) for each in (seqio.TaskRegistry, seqio.MixtureRegistry)}
    yield
    for each, names in kept.items():
        for name in set(each.names()) - names:
            each.remove(name)


def write(folder: Path, rows: list[dict], name: str = "train.jsonl") -> LocalRecords:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return LocalRecords(str(folder))


def planets(tmp_path: Path, rows: list[dict] = PLANETS):
    templates = PromptCollection.read(FOLDER).of("planets")
    return register_dataset(templates, write(tmp_path, rows), vocabulary=VOCABULARY)


def elements(name: str, split: str = "train") -> list[dict]:
    task = seqio.get_mixture_or_task(name)
    dataset = task.get_dataset(sequence_length=None, split=split, shuffle=False)
    return list(dataset.as_numpy_iterator())


@pytest.mark.usefixtures("registries")
def test_a_data_set_gives_a_task_for_each_prompt(tmp_path):
    registered = planets(tmp_path)
    assert registered.tasks == ("planets_a_moon", "planets_rock_or_gas_", "planets_two_branches")
    assert registered.score_eval == (
        "planets_rock_or_gas__score_eval",
        "planets_two_branches_score_eval",
    )
    assert registered.original == ("planets_rock_or_gas__score_eval",)


@pytest.mark.usefixtures("registries")
def test_training_elements_are_rendered_tokenised_and_end(tmp_path):
    planets(tmp_path)
    first, *_ = made = elements("planets_rock_or_gas_")
    assert len(made) == 3
    assert first["inputs_pretokenized"] == b"Is Mars made of rock or of gas?"
    assert first["targets_pretokenized"] == b"rock"
    assert list(first["answer_choices"]) == [b"rock", b"gas"]
    assert list(first["targets"]) == [*VOCABULARY.encode("rock"), 1]
    assert list(first["inputs"]) == VOCABULARY.encode("Is Mars made of rock or of gas?")


@pytest.mark.usefixtures("registries")
def test_records_that_the_prompt_leaves_out_are_left_out(tmp_path):
    planets(tmp_path)
    inputs = [element["inputs_pretokenized"] for element in elements("planets_a_moon")]
    assert inputs == [b"Name a moon of Mars.", b"Name a moon of Jupiter."]
    assert elements("planets_a_moon")[0].keys() == elements("planets_a_moon")[1].keys()
    again = [element["targets_pretokenized"] for element in elements("planets_a_moon")]
    assert again == [element["targets_pretokenized"] for element in elements("planets_a_moon")]


@pytest.mark.usefixtures("registries")
def test_ranked_elements_are_one_for_each_choice(tmp_path):
    planets(tmp_path)
    made = elements("planets_rock_or_gas__score_eval")
    assert [list(element["idx"]) for element in made] == [[i, c] for i in range(3) for c in (0, 1)]
    assert [element["targets_pretokenized"] for element in made[:2]] == [b"rock", b"gas"]
    assert [bool(element["is_correct"]) for element in made] == [True, False] * 2 + [False, True]
    assert {float(element["weight"]) for element in made} == {1.0}


@pytest.mark.usefixtures("registries")
def test_mixtures_take_a_data_set_s_examples_for_each_prompt(tmp_path):
    registered = planets(tmp_path)
    mixture = register_mixture("planets_train", [registered])
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == dict.fromkeys(registered.tasks, 3)


def test_a_large_data_set_s_prompts_share_its_cap():
    assert t0.capped(500_000, 9) == 500_000
    assert t0.capped(500_001, 9) == 55_555


def test_names_are_t0_s():
    assert t0.task_name("super_glue", "cb", "claim true/false/inconclusive") == (
        "super_glue_cb_claim_true_false_inconclusive"
    )
    assert t0.task_name("wiki_qa", None, "Is This True?") == "wiki_qa_Is_This_True_"
    assert (
        t0.task_name("super_glue", "wsc.fixed", "p is/are r") == "super_glue_wsc.fixed_p_is_are_r"
    )


def test_t0_s_list_is_whole():
    groups = [dataset.trained for dataset in t0.datasets()]
    assert [groups.count(name) for name in ("BASE", "GPT_EVAL", "SGLUE")] == [38, 10, 6]


@pytest.mark.usefixtures("registries")
def test_errors_name_the_record_and_the_prompt(tmp_path):
    lacking = [PLANETS[0], {"planet": "Mars", "moons": []}]
    templates = PromptCollection.read(FOLDER).of("planets")
    records = write(tmp_path, lacking)
    source = PromptedSource("x", templates["rock or gas?"], records)
    with pytest.raises(PromptError, match=r"line 2: prompt 'rock or gas\?' .*'label'.*lacks"):
        list(source.rendered("train"))


def test_prompts_can_be_chosen_by_the_fields_there_are(tmp_path):
    templates = PromptCollection.read(FOLDER).of("planets")
    records = write(tmp_path, [{"planet": "Venus", "moons": []}])
    assert list(with_fields_of(templates, records)) == ["a_moon"]


def test_ranking_needs_choices(tmp_path):
    template = PromptCollection.read(FOLDER).find("planets", None, "a_moon")
    with pytest.raises(UserError, match="'a_moon' of planets has no answer_choices"):
        PromptedSource("x", template, write(tmp_path, PLANETS), ranked=True)


@pytest.mark.usefixtures("registries")
def test_a_data_set_without_usable_examples_is_an_error(tmp_path):
    planets(tmp_path, [{"planet": "Venus", "moons": [], "label": 0}] * 4)
    task = registry.find("planets_a_moon")
    with pytest.raises(Exception, match="makes no example of the 4 records"):
        elements(task.name)
    assert isinstance(task.source.problem, UserError)
    with pytest.raises(UserError, match="got none"):
        register_dataset({}, write(tmp_path, PLANETS))


@pytest.mark.usefixtures("registries")
def test_a_cache_depends_on_prompt_and_data_and_not_on_reading_them(tmp_path):
    registered = planets(tmp_path)
    folders = {declaration.folder(registry.find(name)) for name in registered.tasks}
    assert len(folders) == 3


@pytest.mark.usefixtures("registries")
def test_only_what_is_trained_on_has_an_objective(tmp_path):
    registered = planets(tmp_path)
    assert {registry.objective(registry.find(name)) for name in registered.tasks} == {AsGiven()}
    message = r"'planets_rock_or_gas__score_eval' is for rank .* take 'planets_rock_or_gas_', wi"
    with pytest.raises(UserError, match=message):
        registry.objective(registry.find("planets_rock_or_gas__score_eval"))


def test_the_embedded_family_is_registered():
    train = seqio.get_mixture_or_task("embedded_prompted_train")
    held_out = seqio.get_mixture_or_task("embedded_prompted_score_eval")
    assert len(train.tasks) == 23
    assert len(held_out.tasks) == 15
    assert all("train" in task.splits for task in train.tasks)
    assert all(task.splits == ("validation",) for task in held_out.tasks)
    losses = seqio.get_mixture_or_task("embedded_prompted_held_out")
    assert {f"{task.name}_score_eval" for task in losses.tasks} == {t.name for t in held_out.tasks}
    assert all(registry.objective(task) == AsGiven() for task in (*losses.tasks, *train.tasks))
    assert {losses.get_rate(task) for task in losses.tasks} == {1.0}
    example = elements("embedded_ordered_which_is_right_score_eval", "validation")[0]
    assert {"inputs", "targets", "idx", "is_correct", "weight"} <= example.keys()


@pytest.mark.usefixtures("registries")
def test_what_is_held_out_can_be_ranked(tmp_path):
    registered = planets(tmp_path)
    register_held_out("my", [registered])
    assert [t.name for t in registry.find("my_held_out").tasks] == ["planets_rock_or_gas_"]
    ranked = registry.find("my_score_eval").tasks
    assert [task.name for task in ranked] == ["planets_rock_or_gas__score_eval"]
    unrankable = dataclasses.replace(registered, original=())
    with pytest.raises(UserError, match=r"'other_score_eval': none of the prompts has both"):
        register_held_out("other", [unrankable])


def test_a_mixture_that_needs_templates_says_so():
    if "d4_train" in seqio.MixtureRegistry.names():
        pytest.skip("PROMPTSOURCE_TEMPLATES names a folder of PromptSource's templates")
    with pytest.raises(UserError, match=r"'d4_train' is registered once PROMPTSOURCE_TEMPLATES"):
        registry.find("d4_train", "tasks.prompted")
    with pytest.raises(UserError, match=r"Did you mean 'embedded_prompted_train'"):
        registry.find("embedded_prompt_train", "tasks.prompted")


@pytest.mark.usefixtures("registries")
@pytest.mark.skipif(
    "PROMPTSOURCE_TEMPLATES" not in os.environ,
    reason="PROMPTSOURCE_TEMPLATES names no folder of PromptSource's templates",
)
def test_t0_s_mixtures_have_its_prompts(tmp_path):
    write(tmp_path / "super_glue" / "cb", [], "validation.jsonl")
    if "d4_train" not in seqio.MixtureRegistry.names():
        register_t0(os.environ["PROMPTSOURCE_TEMPLATES"], str(tmp_path))
    sizes = {name: len(seqio.get_mixture_or_task(name).tasks) for name in t0.MIXTURES}
    assert sizes == {"d4_train": 313, "d4_gpt_eval_train": 392, "d4_gpt_sglue_train": 464}
    mixture = seqio.get_mixture_or_task("d4_train")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates["gigaword_TLDR"] == 500_000 // 9
    assert rates["ag_news_classify"] == 120_000
    # RTE 10, CB 15, ANLI 15 x 3, WSC 10, Winogrande 5, StoryCloze 5, WiC 10, HellaSwag 4, COPA 12
    assert len(seqio.get_mixture_or_task("d4_score_eval").tasks) == 116
    anli = registry.find("anli_GPT_3_style_r2_score_eval")
    assert anli.splits == ("train", "validation", "test")


@pytest.mark.usefixtures("registries")
def test_changed_records_are_told_and_not_taken_from_an_old_cache(tmp_path):
    name = planets(tmp_path).tasks[0]
    task = registry.find(name)
    cache.ensure(task, "train", tmp_path / "cache", workers=0)
    cache.ensure(task, "train", tmp_path / "cache", workers=0)
    for each in [each for each in seqio.TaskRegistry.names() if each.startswith("planets_")]:
        seqio.TaskRegistry.remove(each)
    planets(tmp_path, [*PLANETS, {"planet": "Saturn", "moons": ["Titan"], "label": 1}])
    with pytest.raises(UserError, match=r"train.jsonl changed, came or went"):
        cache.ensure(registry.find(name), "train", tmp_path / "cache", workers=0)
