"""What is told before a run: what is new, reused, superseded."""

from archobj_jax.study import changes
from tests.study.synthetic import CHAINS, graph, run, study


def test_a_run_says_what_is_new_and_what_an_edit_supersedes_and_why(store):
    of = graph(study())
    assert "12 stages, 0 done, 12 to run" in changes.summary(of, store)
    store.keep_graph(of)
    run(of, store)
    assert "12 done, 0 to run" in changes.summary(of, store)
    edited = graph(study(chains=CHAINS[:2]), config="A = 2")
    text = changes.summary(edited, store)
    assert "8 stages, 0 done, 8 to run" in text
    assert "superseded: CD:FLM (3K), tiny, seed 0: A: 1 -> 2" in text
    assert "no longer asked for (stays): CD:FLM (3K) → ND:MLM (1K), tiny, seed 0" in text


def test_stages_of_another_study_are_told_to_be_reused(store):
    run(graph(study(chains=CHAINS[:1], name="first")), store)
    text = changes.summary(graph(study(name="second")), store)
    assert "\n  run by another study, and reused: 1-4.\n" in text


def test_an_edit_of_a_budget_is_told_as_that_and_not_as_stages_of_their_own(store):
    of = graph(study())
    store.keep_graph(of)
    run(of, store)
    shorter = tuple(chain.replace("ND:MLM 10 steps", "ND:MLM 5 steps") for chain in CHAINS)
    lines = changes.summary(graph(study(chains=shorter)), store).splitlines()
    adapted, finetuned = (
        f"  superseded: CD:FLM (3K) → ND:MLM (1K){end}, tiny, seed 0: "
        "budget of ND:MLM: 10 steps -> 5 steps"
        for end in ("", " → ND:MTF (1K)")
    )
    assert [line for line in lines if "superseded:" in line] == [adapted, finetuned]
    assert lines[lines.index(adapted) + 1].startswith("    the old one stays: ")
    assert lines[-1] == "  superseded with what they evaluate (stay): 2 evaluations"


def test_a_budget_that_others_keep_beside_a_changed_one_is_not_taken_for_it(store):
    store.keep_graph(of := graph(study(chains=("CD:FLM 10 steps", "CD:FLM 20 steps"))))
    run(of, store)
    text = changes.summary(graph(study(chains=("CD:FLM 20 steps", "CD:FLM 40 steps"))), store)
    assert "superseded: CD:FLM (1K), tiny, seed 0: budget of CD:FLM: 10 steps -> 40 steps" in text
    text = changes.summary(graph(study(chains=("CD:FLM 20 steps",))), store)
    assert "no longer asked for (stays): CD:FLM (1K), tiny, seed 0" in text
    assert "superseded" not in text


def test_a_study_knows_its_own_stages_when_an_edit_is_undone(store):
    first, edited = graph(study()), graph(study(), config="A = 2")
    for each in (first, edited):
        store.keep_graph(each)
        run(each, store)
    text = changes.summary(first, store)
    assert "12 done, 0 to run" in text
    assert "another study" not in text


def test_stages_of_as_many_tokens_in_one_leg_and_in_two_are_told_apart(store):
    chains = ("CD:FLM 20 steps → CD:FLM 20 steps", "CD:FLM 40 steps")
    of = graph(study(chains=chains))
    assert len({stage.label for stage in of}) == len(of)
    store.keep_graph(of)
    run(of, store)
    text = changes.summary(graph(study(chains=chains), config="A = 2"), store)
    for label in ("CD:FLM (2K + 2K)", "CD:FLM (4K)"):
        assert f"superseded: {label}, tiny, seed 0: A: 1 -> 2" in text
