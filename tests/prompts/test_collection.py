from pathlib import Path

import pytest

from archobj_jax.errors import UserError
from archobj_jax.prompts import Metadata, PromptCollection, PromptError

FOLDER = Path(__file__).parent / "templates"


@pytest.fixture(scope="module")
def collection() -> PromptCollection:
    return PromptCollection.read(FOLDER)


def test_a_folder_gives_its_prompts_by_data_set_and_name(collection):
    assert set(collection.prompts) == {("planets", None), ("weather", "daily")}
    assert list(collection.of("planets")) == ["a_moon", "rock or gas?", "two branches"]
    assert len(collection) == 4
    assert [template.name for template in collection][-1] == "good"


def test_every_part_of_a_prompt_is_read(collection):
    template = collection.find("planets", None, "a_moon")
    assert template.id == "0b4d3c8e-6c25-4f6d-9a52-1a3a44f9a002"
    assert template.answer_choices is None
    assert template.reference == "Somebody 2020"
    assert template.metadata == Metadata(metrics=("Other",), languages=("en",))
    other = collection.find("planets", None, "rock or gas?").metadata
    assert (other.original_task, other.choices_in_prompt) == (True, True)


def test_a_broken_prompt_is_an_error_of_its_own(collection):
    assert collection.find("weather", "daily", "good").name == "good"
    with pytest.raises(PromptError, match=r"'unfinished loop' of weather/daily is not Jinja"):
        collection.find("weather", "daily", "unfinished loop")
    assert "'__mro__'" in str(collection.problems["weather", "daily", "reaches out"])


def test_unknown_names_are_told_the_nearest(collection):
    with pytest.raises(UserError, match=r"'planet'.*Did you mean 'planets'"):
        collection.of("planet")
    with pytest.raises(UserError, match=r"no prompt 'a moon'.*Did you mean 'a_moon'"):
        collection.find("planets", None, "a moon")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: a\ntemplates: {x: !Template {name: n}}", "'jinja' is of type NoneType"),
        ("dataset: a\ntemplates: {x: !Template {name: 5, jinja: x}}", "'name' is of type int"),
        ("dataset: a\ntemplates: {x: !Template {name: n, jinja: x, metadata: 5}}", "'metadata'"),
        ("dataset: a\ntemplates: [1]", "expected a mapping"),
        ("templates: {}", "'dataset'"),
        ("dataset: [unclosed", "not a YAML file"),
        ("dataset: !!python/object/apply:os.system ['true']\ntemplates: {}", "not a YAML file"),
        ("a: &a {b: 1}\ndataset: {<<: *a}\ntemplates: {}", "merge key"),
        ("[" * 5000, "not a YAML file"),
        (
            "dataset: a\ntemplates: {x: !Template {name: n, jinja: x},"
            " y: !Template {name: n, jinja: x}}",
            "two prompts are named 'n'",
        ),
        ("dataset: a\ntemplates: {}\n#" + "x" * (1 << 20), "larger than"),
    ],
)
def test_what_is_not_a_file_of_templates_is_said(tmp_path, text, message):
    file = tmp_path / "templates.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        PromptCollection.read(file)
    assert str(file) in str(caught.value)


def test_yaml_anchors_do_not_multiply(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    file = tmp_path / "templates.yaml"
    file.write_text("\n".join([*lines, "dataset: *a29", "templates: {}"]))
    with pytest.raises(UserError, match="expected text under 'dataset'"):
        PromptCollection.read(file)


def test_missing_files_are_said(tmp_path):
    with pytest.raises(UserError, match=r"no templates\.yaml lies under"):
        PromptCollection.read(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        PromptCollection.read(tmp_path / "absent.yaml")
