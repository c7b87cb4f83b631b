import pytest

from archobj_jax.training.lineage import Stage, changed_bindings, counted, notation

BEFORE = """
# Macros:
# ====
MODEL_DIR = 'runs/a'
TRAIN_STEPS = 300
TASK_FEATURE_LENGTHS = \\
    {'targets': 142}

# Parameters for losses.Loss:
# ====
losses.Loss.z_loss = 0.0001
"""


def test_changed_bindings_are_listed_but_for_place_and_length():
    now = BEFORE.replace("runs/a", "runs/b").replace("300", "400").replace("0.0001", "0.0")
    assert changed_bindings(BEFORE, now) == ["losses.Loss.z_loss: 0.0001 -> 0.0"]


def test_continuation_lines_and_new_names_count():
    now = BEFORE.replace("142", "64") + "new.name = 1\n"
    assert changed_bindings(BEFORE, now) == [
        "TASK_FEATURE_LENGTHS: {'targets': 142} -> {'targets': 64}",
        "new.name: nothing -> 1",
    ]


def test_nothing_changed():
    assert changed_bindings(BEFORE, BEFORE) == []


def stage(pair: str, tokens: float) -> Stage:
    architecture, objective = pair.split(":")
    return Stage("run", "adapt", architecture, objective, "c", "d", tokens=tokens)


def test_a_lineage_reads_as_in_the_paper():
    """PAPER: CD:FLM (168B) → ND:MLM (51B) → ND:MTF (13B), from the steps and batches of xxl."""
    stages = [
        stage("CD:FLM", 131_072 * 2048 * 626),
        stage("ND:MLM", 40_000 * 2048 * 626),
        stage("ND:MTF", 10_000 * 1024 * 1280),
    ]
    assert notation(stages) == "CD:FLM (168B) → ND:MLM (51.3B) → ND:MTF (13.1B)"


def test_stages_of_one_pair_are_one():
    stages = [stage("CD:FLM", 168e9), stage("CD:FLM", 51e9), stage("CD:MTF", 13e9)]
    assert notation(stages) == "CD:FLM (219B) → CD:MTF (13B)"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, "0"), (852, "852"), (999.6, "1K"), (681_600, "682K"), (1.5e6, "1.5M"), (2.04e12, "2.04T")],
)
def test_tokens_are_told_in_three_digits(tokens, expected):
    assert counted(tokens) == expected
