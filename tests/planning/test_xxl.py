"""The study's decoder at size xxl, compiled for a v4-128: minutes, unless the same was before."""

import json
from pathlib import Path

from archobj_jax.cli import main


def test_xxl_fits_a_v4_128_with_a_third_to_spare_and_half_of_t5xs_collectives(tmp_path: Path):
    out = tmp_path / "plan.json"
    arguments = [
        "plan",
        "--gin_file=t5x_configs/experiments/xxl/cd_flm.gin",
        "--topology=v4:4x4x4",
        "--gin.plan.plan_cache_dir='runs/cache/plans_tests'",
        f"--json={out}",
    ]
    assert main(arguments) == 0
    made = json.loads(out.read_text())
    assert made["chips"] == 64
    assert made["hbm_total"] < 2 / 3 * made["hbm_limit"]
    t5x = (60.5 + 8.0) * 2**30
    assert sum(each["bytes_per_chip"] for each in made["collectives"]) < t5x / 2
    # Layers are computed again, embeddings and logits are not.
    computed = made["compiled_flops_per_chip"] * 64 / made["model_flops"]
    assert 1.0 < computed < 4 / 3
