from archobj_jax.training.lineage import changed_bindings

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
