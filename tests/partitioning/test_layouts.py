"""The layouts of size xxl can be given after its experiments."""

from pathlib import Path

import pytest

from archobj_jax.cli import main

ROOT = Path(__file__).parents[2]
LAYOUTS = sorted(
    path.name
    for pattern in ("xxl_*.gin", "study_*.gin")
    for path in (ROOT / "t5x_configs/partitioning").glob(pattern)
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_replaces_that_of_the_experiment(name, capsys):
    flags = ["--gin_file=experiments/xxl/cd_flm.gin", f"--gin_file=partitioning/{name}"]
    assert main(["train", *flags, "--dry_run"]) == 0, capsys.readouterr().err
    expected = "tensor=4" if name.startswith("study") else "tensor=1"
    assert expected in capsys.readouterr().out
