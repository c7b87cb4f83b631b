"""Every mesh of eight devices gives the losses of one device; checkpoints move between meshes."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from archobj_jax.partitioning.partitioner import Partitioner
from tests.end_to_end import runs

STEPS = {"TRAIN_STEPS": 20, "train__train__stats_period": 1, "train__train__eval_period": 20}
STEPS["checkpoints__SaveCheckpointConfig__period"] = 20
MESHES = {
    "data": {"preset": "data"},
    "fsdp": {"preset": "fsdp"},
    "tensor": {"preset": "tensor", "NUM_PARTITIONS": 8},
    "mixed": {"preset": "fsdp_tensor", "NUM_PARTITIONS": 2, "data": 2},
    "microbatches": {"preset": "fsdp_tensor", "num_microbatches": 2},
    "sequence": {"preset": "fsdp", "sequence": 2, "data": 2},
}
"""A file of t5x_configs/partitioning, and what is set besides."""


def on(monkeypatch: pytest.MonkeyPatch, devices: int) -> None:
    """Lets meshes be built of only the first devices."""
    mesh = Partitioner.mesh
    monkeypatch.setattr(Partitioner, "mesh", lambda self: mesh(self, jax.devices()[:devices]))


def bindings(mesh: str) -> dict[str, int | str]:
    rooms = {"num_microbatches": "trainer__Trainer__num_microbatches"}
    rooms |= {axis: f"partitioner__Partitioner__{axis}" for axis in ("data", "fsdp", "sequence")}
    return {rooms.get(name, name): value for name, value in MESHES[mesh].items()}


PAIRS = ("cd_flm", "nd_plm", "ed_mlm")
QUICK = {
    ("cd_flm", "data"),
    ("cd_flm", "fsdp"),
    ("nd_plm", "tensor"),
    ("nd_plm", "sequence"),
    ("ed_mlm", "microbatches"),
}
"""Each architecture, and each preset, once; all pairs of them run with --slow."""


@pytest.fixture(scope="session")
def one_device(work: Path) -> Callable[[str], list[float]]:
    """The losses of each pair on a single device."""

    @functools.cache
    def losses(pair: str) -> list[float]:
        with pytest.MonkeyPatch.context() as patch:
            on(patch, 1)
            assert runs.here(work / pair, pair, **STEPS) == 0
        return runs.losses(work / pair)

    return losses


@pytest.mark.parametrize(
    ("pair", "mesh"),
    [
        pytest.param(pair, mesh, marks=[] if (pair, mesh) in QUICK else pytest.mark.slow)
        for pair in PAIRS
        for mesh in MESHES
        if (pair, mesh) != ("ed_mlm", "sequence")  # Its targets' length does not divide.
    ],
)
def test_every_mesh_gives_the_losses_of_one_device(pair, mesh, tmp_path, one_device):
    assert len(jax.devices()) == 8
    expected = one_device(pair)
    assert len(expected) == 20
    assert expected[-1] < expected[0] - 0.5
    assert runs.here(tmp_path, pair, **STEPS, **bindings(mesh)) == 0
    assert runs.losses(tmp_path) == pytest.approx(expected, abs=1e-5, rel=0)
    info = (tmp_path / "model-info.txt").read_text()
    share = float(info.split("not sharded ")[1].split("%")[0])
    print(pair, mesh, f"not sharded: {share}%")
    if mesh == "data":
        assert share == 100.0, info
    else:
        assert share < 5.0, info


def test_a_run_saved_on_one_mesh_goes_on_on_another(tmp_path, monkeypatch, undisturbed):
    assert runs.here(tmp_path, TRAIN_STEPS=4, **bindings("fsdp")) == 0
    saved = runs.checksum(tmp_path)
    assert runs.here(tmp_path, TRAIN_STEPS=4, **bindings("tensor")) == 0  # only reads it
    assert runs.checksum(tmp_path) == saved
    assert runs.here(tmp_path, TRAIN_STEPS=8, **bindings("mixed")) == 0
    on(monkeypatch, 1)
    assert runs.here(tmp_path) == 0
    assert [record["step"] for record in runs.metrics(tmp_path) if "accuracy" in record]
    assert runs.losses(tmp_path) == pytest.approx(runs.losses(undisturbed), abs=1e-5, rel=0)
