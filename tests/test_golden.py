"""Ready experiments are what their golden files say; `python -m tests.golden` writes them anew."""

from collections.abc import Iterator

import jax
import pytest

from tests import golden

SIZES = ("tiny", "small", "base", "large", "xl", "xxl")
MODELS = ("cd", "nd", "ed")


@pytest.fixture(scope="module", autouse=True)
def compilation_cache() -> Iterator[None]:
    """A dry run sets the cache of a run of its own; tests go on with theirs."""
    folder = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", folder)


@pytest.mark.parametrize("experiment", golden.experiments())
def test_an_experiment_is_what_its_golden_files_say(experiment: str):
    for path, now in golden.files(experiment).items():
        assert path.exists(), f"no {path.relative_to(golden.ROOT)}: run python -m tests.golden"
        difference = golden.first_difference(path.read_text(encoding="utf-8"), now)
        assert difference is None, f"{path.relative_to(golden.ROOT)}, {difference}"


def test_there_are_no_golden_files_of_other_experiments():
    names = golden.experiments()
    configs = {str(p.relative_to(golden.CONFIGS))[:-4] for p in golden.CONFIGS.rglob("*.txt")}
    tables = {str(p.relative_to(golden.PARAMETERS))[:-4] for p in golden.PARAMETERS.rglob("*.txt")}
    assert configs == set(names)
    assert tables == {f"{name.split('/')[0]}/{model}" for name in names for model in MODELS}


def test_all_sizes_have_all_six_pairs_of_the_paper():
    pairs = ("cd_flm", "cd_mlm", "nd_plm", "nd_mlm", "ed_plm", "ed_mlm")
    assert {f"{size}/{pair}" for size in SIZES for pair in pairs} <= set(golden.experiments())


def test_all_sizes_have_the_papers_adaptations_and_finetunings():
    adaptations = (
        "cd_flm_to_nd_mlm",
        "nd_mlm_to_cd_flm",
        "nd_mlm_to_nd_plm",
        "cd_mlm_to_cd_flm",
        "ed_mlm_to_ed_plm",
    )
    finetunings = (
        *("cd_from_cd_flm", "nd_from_cd_flm", "nd_from_nd_plm", "ed_from_ed_plm"),
        *("cd_from_cd_mlm", "nd_from_nd_mlm", "ed_from_ed_mlm"),
    )
    names = [f"adapt_{name}" for name in adaptations] + [f"mtf_{name}" for name in finetunings]
    assert {f"{size}/{name}" for size in SIZES for name in names} <= set(golden.experiments())


def test_the_first_difference_is_named():
    assert golden.first_difference("a = 1\nb = 2\n", "a = 1\nb = 2\n") is None
    assert golden.first_difference("a = 1\nb = 2\n", "a = 1\nb = 3\n") == (
        "line 2: golden 'b = 2', now 'b = 3'"
    )
    assert "now '(end)'" in str(golden.first_difference("a = 1\nb = 2\n", "a = 1\n"))


def test_flattened_text_has_one_sorted_binding_a_line():
    text = "# comment\nfrom a import b\n\nf.y = \\\n    'long'\nf.x = {'a': 1,\n       'b': 2}\n"
    assert golden.flattened(text) == "f.x = {'a': 1, 'b': 2}\nf.y = 'long'\n"
