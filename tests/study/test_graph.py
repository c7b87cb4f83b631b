"""Expansion of a study over the ready experiments, and what a stage's fingerprint knows."""

import dataclasses
import re
from pathlib import Path

import pytest
import seqio

from archobj_jax.data import registry
from archobj_jax.errors import UnreachableError, UserError
from archobj_jax.study import changes, resolving, submitting
from archobj_jax.study.design import Evaluation, Study
from archobj_jax.study.graph import expand
from archobj_jax.study.status import status_table
from archobj_jax.study.store import Store
from archobj_jax.training import parameter_rules

EMBEDDED = Evaluation("Embedded", "t5x_configs/suites/embedded_eval.gin")
STUDY = Study(
    name="small",
    sizes=("tiny",),
    chains=(
        "CD:FLM 681.6K → CD:MTF 100 steps",
        "CD:FLM 681.6K → ND:MLM 100 steps → ND:MTF 100 steps",
    ),
    evaluations=(EMBEDDED,),
)


@pytest.fixture(scope="module")
def graph():
    return expand(STUDY)


def training(graph):
    return [stage for stage in graph if stage.evaluation is None]


def fingerprints(**changes):
    return set(expand(dataclasses.replace(STUDY, **changes)).stages)


def test_chains_share_the_stages_that_they_begin_with(graph):
    assert [stage.notation for stage in training(graph)] == [
        "CD:FLM (682K)",
        "CD:FLM (682K) → CD:MTF (512K)",
        "CD:FLM (682K) → ND:MLM (227K)",
        "CD:FLM (682K) → ND:MLM (227K) → ND:MTF (512K)",
    ]


def test_each_training_stage_is_evaluated_and_parents_come_first(graph):
    assert len(graph) == 8
    seen = set()
    for stage in graph:
        assert stage.parent is None or stage.parent in seen
        seen.add(stage.fingerprint)


def test_steps_go_on_counting_across_stages(graph):
    assert [(s.start_step, s.total_steps) for s in training(graph)] == [
        (0, 300), (300, 400), (300, 400), (400, 500),
    ]  # fmt: skip


def test_a_stage_has_the_gin_files_of_its_leg(graph):
    names = [[name.split("/")[-1] for name in stage.gin_files] for stage in training(graph)]
    assert names == [
        ["cd_flm.gin"],
        ["mtf_cd_from_cd_flm.gin"],
        ["nd_mlm.gin", "adapt.gin"],
        ["mtf_nd_from_nd_mlm.gin"],
    ]


def test_flops_are_those_that_the_model_takes_with_attention(graph):
    pretraining = training(graph)[0]
    d, h, f, layers, vocabulary, length = 128, 128, 256, 2, 4224, 142
    per_token = 2 * (layers * (4 * d * h + 3 * d * f) + vocabulary * d) + 4 * layers * length * h
    assert pretraining.flops == 3 * per_token * length * 16 * 300


def test_the_same_study_has_the_same_fingerprints(graph):
    assert fingerprints() == set(graph.stages)


def test_another_name_or_order_or_cache_changes_no_fingerprint(graph):
    assert fingerprints(name="other") == set(graph.stages)
    assert fingerprints(chains=STUDY.chains[::-1]) == set(graph.stages)
    assert fingerprints(bindings={"train": ("CACHE_DIR=/elsewhere",)}) == set(graph.stages)


def test_where_compiled_programs_are_kept_changes_no_fingerprint(graph):
    elsewhere = {
        "train": ("train.train.compilation_cache_dir='/x'",),
        "evaluate": ("evaluate.evaluate.compilation_cache_dir=None",),
    }
    assert fingerprints(bindings=elsewhere) == set(graph.stages)


def test_an_evaluation_by_another_name_lies_where_it_lay(graph):
    renamed = dataclasses.replace(EMBEDDED, name="Held out")
    again = expand(dataclasses.replace(STUDY, evaluations=(renamed,)))
    assert [stage.folder for stage in again] == [stage.folder for stage in graph]


def test_other_held_out_data_of_finetuning_are_other_stages(graph):
    held_out = {"finetune": ("HELD_OUT_MIXTURE_OR_TASK_NAME='embedded_prompted_train'",)}
    again = fingerprints(bindings=held_out)
    changed = {stage.kind for stage in graph if stage.fingerprint not in again}
    assert changed == {"finetune", "evaluate"}


def test_a_misspelt_held_out_task_is_told_with_the_nearest():
    held_out = {"finetune": ("HELD_OUT_MIXTURE_OR_TASK_NAME='embedded_prompted_trian'",)}
    with pytest.raises(UserError, match=r"embedded_prompted_trian.*Did you mean 'embedded_pro"):
        fingerprints(bindings=held_out)


@pytest.mark.parametrize(
    "binding",
    ["train.train.total_steps=10", "train.train.random_seed=0", "train.train.model_dir='x'"],
)
def test_what_a_study_sets_by_macros_is_not_bound_past_them(binding):
    with pytest.raises(UserError, match=r"= .*: a study sets it, by [A-Z_]+; leave it out"):
        fingerprints(bindings={"train": (binding,)})


def test_steps_that_begin_anew_are_refused():
    anew = {"adapt": ("adaptation.InitialCheckpoint.step='zero'",)}
    with pytest.raises(UserError, match=r"adaptation\.InitialCheckpoint\.step = 'zero': a study"):
        fingerprints(bindings=anew)


def test_tasks_of_the_harness_are_told_to_count_by_name():
    harness = Evaluation("EAI", "t5x_configs/suites/eai_eval.gin", after=("pretrain",))
    made = expand(dataclasses.replace(STUDY, evaluations=(harness,)))
    assert "stage 2: data of HARNESS_TASKS count by name only, on every machine" in made.notes[0]
    (need,) = made.needs
    assert made.numbered(need.stages) == "stage 2"
    assert "extra `eval`" in need.what


def test_a_binding_of_pretraining_changes_all_that_starts_from_it(graph):
    changed = fingerprints(bindings={"pretrain": ("trainer.Trainer.num_microbatches=2",)})
    assert not changed & set(graph.stages)


def test_a_binding_of_finetuning_changes_only_finetuning_and_its_evaluations(graph):
    kept = fingerprints(bindings={"finetune": ("BATCH_SIZE=8",)}) & set(graph.stages)
    assert {graph.stages[each].pairs for each in kept} == {"CD:FLM", "CD:FLM → ND:MLM"}
    assert len(kept) == 4


def test_a_longer_adaptation_changes_itself_and_what_starts_from_it(graph):
    chains = (STUDY.chains[0], STUDY.chains[1].replace("ND:MLM 100", "ND:MLM 101"))
    gone = set(graph.stages) - fingerprints(chains=chains)
    assert {graph.stages[each].pairs for each in gone} == {
        "CD:FLM → ND:MLM", "CD:FLM → ND:MLM → ND:MTF",
    }  # fmt: skip


def test_an_evaluation_of_fewer_examples_changes_only_evaluations(graph):
    fewer = dataclasses.replace(EMBEDDED, bindings=("NUM_EXAMPLES=5",))
    gone = set(graph.stages) - fingerprints(evaluations=(fewer,))
    assert {graph.stages[each].kind for each in gone} == {"evaluate"}
    assert len(gone) == 4


def test_two_evaluations_that_come_to_the_same_are_told():
    same = dataclasses.replace(EMBEDDED, name="Again")
    with pytest.raises(UserError, match="'Embedded' and 'Again' are the same suite"):
        fingerprints(evaluations=(EMBEDDED, same))
    after = [dataclasses.replace(EMBEDDED, after=("pretrain",))]
    after += [dataclasses.replace(same, after=("adapt", "finetune"))]
    assert fingerprints(evaluations=after) == fingerprints()


def test_seeds_are_stages_of_their_own():
    both = expand(dataclasses.replace(STUDY, seeds=(0, 1)))
    assert len(both) == 16
    assert {stage.seed for stage in both} == {0, 1}


def test_pretraining_goes_on_from_one_budget_to_the_next():
    chains = ("CD:FLM 100 steps → CD:FLM 200 steps → CD:MTF 50 steps",)
    graph = expand(dataclasses.replace(STUDY, chains=chains, evaluations=()))
    first, second, last = graph
    assert second.kind == "pretrain"
    assert second.total_steps == 300
    assert second.parent == first.fingerprint
    assert "train.train.stage=pretrain" in second.bindings
    assert last.notation == "CD:FLM (682K) → CD:MTF (256K)"


def test_a_size_or_pair_without_experiment_is_told():
    message = (
        r"Study\.sizes has 'tinny': there is no folder t5x_configs/experiments/tinny\. "
        r"Did you mean 'tiny'\? Sizes are base, large, small, tiny, xl, xxl"
    )
    with pytest.raises(UserError, match=message):
        fingerprints(sizes=("tinny",))
    with pytest.raises(UserError, match=r"Study\.experiments = 'nowhere': expected a folder"):
        fingerprints(experiments="nowhere")


def test_experiments_by_their_full_path_are_found(tmp_path, graph):
    (tmp_path / "own").symlink_to(Path("t5x_configs/experiments/tiny").absolute())
    made = expand(dataclasses.replace(STUDY, sizes=("own",), experiments=str(tmp_path)))
    assert [stage.config for stage in made] == [stage.config for stage in graph]


@pytest.mark.parametrize(
    ("kind", "binding", "message"),
    [
        ("train", "BATCH_SIZES=8", 'bindings["train"], BATCH_SIZES=8: no gin file'),
        ("finetune", "BATCH_SIZE=eight", "is 'eight' (Study.bindings[\"finetune\"], BATCH_SIZE=ei"),
        ("adapt", "BATCH_SIZE", 'Study.bindings["adapt"], BATCH_SIZE: expected'),
        ("evaluate", "NUM_EXAMPLE=8", 'Study.bindings["evaluate"], NUM_EXAMPLE=8: no gin'),
    ],
)
def test_a_mistake_in_a_binding_is_told_as_the_study_has_it(kind, binding, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        fingerprints(bindings={kind: (binding,)})
    assert f"--gin.{binding}" not in str(error.value)


def test_a_mistake_in_an_evaluation_is_told_as_the_study_has_it():
    other = dataclasses.replace(EMBEDDED, gin_file="t5x_configs/suites/embeded_eval.gin")
    with pytest.raises(UserError, match=r"^Evaluation\.gin_file of 'Embedded': no gin file"):
        fingerprints(evaluations=(other,))
    other = dataclasses.replace(EMBEDDED, bindings=("NUM_EXAMPLE=8",))
    with pytest.raises(UserError, match=r"^Evaluation\.bindings of 'Embedded', NUM_EXAMPLE=8: "):
        fingerprints(evaluations=(other,))


@pytest.mark.parametrize(
    ("kind", "binding", "by"),
    [
        ("train", "TRAIN_STEPS=3", "the budgets of the chains"),
        ("adapt", "RANDOM_SEED = 3", "Study.seeds"),
        ("pretrain", "MODEL_DIR=here", "--store"),
        ("finetune", "INITIAL_CHECKPOINT_PATH=there", "the chains"),
        ("evaluate", "CHECKPOINT_PATH=there", "the stage that is evaluated"),
        ("evaluate", "EVAL_OUTPUT_DIR=here", "--store"),
    ],
)
def test_what_a_study_sets_itself_is_refused_with_what_sets_it(kind, binding, by):
    name = binding.partition("=")[0].strip()
    message = f'Study.bindings["{kind}"] has {binding}: a study sets {name} by {by}'
    with pytest.raises(UserError, match=re.escape(message)):
        fingerprints(bindings={kind: (binding,)})


def test_a_budget_that_is_no_step_is_told_with_what_a_step_takes():
    with pytest.raises(UserError, match=r"^chain 'CD:FLM 40 FLOPs': 40 FLOPs are no step; one"):
        fingerprints(chains=("CD:FLM 4e1 FLOPs",))


@pytest.mark.parametrize(
    ("chain", "kind"),
    [("ND:MLM 9 steps → ED:MTF 9 steps", "finetune"), ("ED:MLM 9 steps → ND:MLM 9 steps", "adapt")],
)
def test_another_stack_needs_rules_and_those_that_are_named_are_enough(chain, kind, monkeypatch):
    models = []
    step = resolving._step
    monkeypatch.setattr(
        resolving, "_step", lambda model, data: models.append(model) or step(model, data)
    )
    resolving.recipe.cache_clear()
    with pytest.raises(UserError, match=rf'Study.bindings\["{kind}"\] may bind') as error:
        fingerprints(chains=(chain,), evaluations=())
    source, target = map(resolving._infos, models)
    assert parameter_rules.origins(target, source, [])[1]
    told = str(error.value).partition("INITIAL_CHECKPOINT_RULES=")[2].removesuffix(".")
    for rules in told.split(" or "):
        assert not parameter_rules.origins(target, source, parameter_rules.named(eval(rules)))[1]
        bound = {kind: (f"INITIAL_CHECKPOINT_RULES={rules}",)}
        assert len(fingerprints(chains=(chain,), evaluations=(), bindings=bound)) == 2


def test_a_misspelt_task_is_told_with_the_nearest():
    with pytest.raises(UserError, match="no task or mixture is named 'embedded_fill_lm'"):
        fingerprints(bindings={"pretrain": ("MIXTURE_OR_TASK_NAME='embedded_fill_lm'",)})


T0 = Evaluation("T0", "t5x_configs/suites/t0_eval.gin")


def test_stages_whose_data_are_known_by_name_are_told_by_number():
    of = expand(dataclasses.replace(STUDY, chains=STUDY.chains[:1], evaluations=(EMBEDDED, T0)))
    assert [stage.evaluation for stage in of] == [None, "Embedded", "T0"] * 2
    (note,) = of.notes
    assert note == "stages 3, 6: data d4_score_eval count by name only, on every machine"
    (need,) = of.needs
    assert (of.numbered(need.stages), need.here) == ("stages 3, 6", False)
    assert need.what.startswith("'d4_score_eval' is registered once PROMPTSOURCE_TEMPLATES names")
    assert f"note: {note}" in status_table(of, Store("nowhere"))
    summary = changes.summary(of, Store("nowhere"))
    assert f"note: {note}" in summary
    assert summary.endswith(f"  WILL FAIL HERE: stages 3, 6: {need.what}.")
    assert f"# note: {note}" in submitting.commands(of, Store("nowhere"), launcher="")


def test_data_that_only_some_machines_have_give_the_same_fingerprints_there(monkeypatch):
    resolving.suite.cache_clear()
    without = fingerprints(evaluations=(T0,))
    task = seqio.get_mixture_or_task("embedded_prompted_score_eval")
    monkeypatch.setitem(seqio.MixtureRegistry._REGISTRY, "d4_score_eval", task)
    resolving.suite.cache_clear()
    of = expand(dataclasses.replace(STUDY, evaluations=(T0,)))
    assert set(of.stages) == without
    assert [need.here for need in of.needs] == [True]
    assert "WILL FAIL" not in changes.summary(of, Store("nowhere"))
    resolving.suite.cache_clear()


def test_data_whose_examples_cannot_be_counted_here_are_by_name(monkeypatch):
    def unreachable(*_):
        raise UnreachableError("needs an extra")

    monkeypatch.setattr(registry, "tasks", unreachable)
    _, by_name = resolving._declared(["embedded_full_lm"], None, "train")
    assert by_name == {
        "embedded_full_lm": "here, and differ where they can be read: needs an extra"
    }


def test_mtf_of_a_pair_without_an_experiment_says_which_it_takes():
    chains = ("CD:MLM 10 steps → ND:MTF 10 steps",)
    of = expand(dataclasses.replace(STUDY, chains=chains, evaluations=()))
    folder = "t5x_configs/experiments/tiny"
    assert of.notes == (
        f"stage 2: there is no {folder}/mtf_nd_from_cd_mlm.gin; "
        f"{folder}/mtf_nd_from_cd_flm.gin is taken",
    )


def test_budgets_in_flops_give_each_pair_steps_of_its_own():
    chains = ("CD:FLM 3e12 FLOPs", "ED:MLM 3e12 FLOPs")
    first, second = expand(dataclasses.replace(STUDY, chains=chains, evaluations=()))
    assert first.total_steps < second.total_steps
    for stage in (first, second):
        assert stage.flops == pytest.approx(3e12, rel=0.5 / stage.total_steps)
