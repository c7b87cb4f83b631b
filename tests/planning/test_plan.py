"""`archobj plan`, compiled for four chips that are not there."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from archobj_jax import config
from archobj_jax.architectures.architecture import CausalDecoder
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.cli import main
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.planning import compiled, search, search_report
from archobj_jax.planning.collectives import Collective
from archobj_jax.planning.figures import Figures
from archobj_jax.planning.plan import planned as planned_step
from archobj_jax.planning.roofline import Roofline, links, roofline
from archobj_jax.planning.run import Run
from archobj_jax.planning.topology import topology_of
from archobj_jax.planning.work import Kernel
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.trainer import Trainer
from tests.tiny import network

NETWORK = network(vocab_size=256, emb_dim=128, mlp_dim=256, num_heads=4, head_dim=32)


def run_of(batch_size: int = 8, **mesh: Any) -> Run:
    return Run(
        model=CausalDecoder(dataclasses.replace(NETWORK, dtype="bfloat16")),
        dataset=DatasetConfig("a_task", {"targets": 32}, "train", batch_size),
        trainer=Trainer(Adafactor(), FactorSchedule(), Loss(), num_microbatches=2),
        partitioner=Partitioner(**mesh),
    )


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, Figures]:
    cache = tmp_path_factory.mktemp("plans")
    topology, run = topology_of("v4:2x2x1"), run_of(fsdp=2, tensor=2)
    return run, cache, planned_step(run.training_step(topology), topology, str(cache))


def test_the_compiled_step_does_what_the_model_needs(planned: tuple[Run, Path, Figures]):
    _, _, made = planned
    assert made.chips == 4
    assert made.compiled_flops * made.chips == pytest.approx(made.model_flops, rel=0.01)


def test_memory_is_that_of_the_shards(planned: tuple[Run, Path, Figures]):
    run, _, made = planned
    infos = run.prepared(made.topology).blueprint.infos
    kernels = sum(4 * i.size // 4 for i in infos if i.path[-1] in ("kernel", "embedding"))
    others = made.memory["parameters"] - kernels
    assert 0 < others < 0.02 * kernels
    assert made.memory["a batch"] == 6 * 4 * 4 * 32  # 6 arrays, 4 rows, 4 bytes
    assert made.hbm == pytest.approx(sum(made.memory.values()), rel=1e-3)
    assert made.hbm < made.hbm_limit == 30.75 * 2**30


def test_parameters_are_gathered_in_the_forward_and_in_the_backward_pass(
    planned: tuple[Run, Path, Figures],
):
    run, _, made = planned
    assert {axes for _, axes, _ in made.collectives} <= {"fsdp", "tensor", "fsdp+tensor"}
    infos = run.prepared(made.topology).blueprint.infos
    stacked = sum(i.size for i in infos if i.path[-1] == "kernel")
    gathered = sum(s for (kind, *_), s in made.collectives.items() if kind == "all-gather")
    assert gathered >= 2 * 2 * stacked / 2 * 2  # two microbatches, two passes, half, 2 bytes


def test_runs_of_one_program_are_compiled_once(
    planned: tuple[Run, Path, Figures], monkeypatch: pytest.MonkeyPatch
):
    run, cache, made = planned
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(compiled, "_compiled", None)  # Called, it would fail.
    data = DatasetConfig("another_task", {"inputs": 20, "targets": 12}, "train", 8)
    other = dataclasses.replace(run, dataset=data)
    topology = topology_of("v4:2x2x1")
    assert planned_step(other.training_step(topology), topology, str(cache)) == dataclasses.replace(
        made, topology=topology
    )
    assert planned_step(
        dataclasses.replace(run, seed=1).training_step(topology), topology, str(cache)
    )  # Without dropout the seed is not in the program.
    with pytest.raises(TypeError, match="not callable"):
        planned_step(run_of(fsdp=4).training_step(topology), topology, str(cache))


def test_planners_of_one_program_do_not_write_one_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    written: list[Path] = []
    write_bytes = Path.write_bytes

    def noted(path: Path, content: bytes) -> int:
        written.append(path)
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", noted)
    made = compiled.CompiledStep("", {}, 1.0, 2.0)
    monkeypatch.setattr(compiled, "_compiled", lambda _: made)
    topology = topology_of("v4:2x2x1")
    step = run_of(fsdp=4).training_step(topology)
    for process in (1, 2):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        assert compiled.compiled_step(step, topology, str(tmp_path)) == made
        (kept,) = tmp_path.iterdir()
        kept.unlink()
    assert len(set(written)) == 2


def test_json_holds_the_figures(planned: tuple[Run, Path, Figures]):
    _, _, made = planned
    written = json.loads(json.dumps(made.as_json() | made.training_json(steps=3600)))
    assert written["hbm_total"] == made.hbm
    assert written["chip_hours"] == pytest.approx(4 * written["seconds"]["step"])
    assert written["tokens_per_day"] == pytest.approx(8 * 32 * 86400 / written["seconds"]["step"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v4:3x4x4", "not divisible.*Did you mean 'v4:4x4x4'"),
        ("v5:4x4x4", "expected GENERATION:AxBxC in chips.*Did you mean 'v5p:4x4x4'"),
        ("v4-100", "no such slice.*nearest: v4-64 and v4-128"),
        ("v9", "expected GENERATION:AxBxC in chips, or a type like v4-128"),
    ],
)
def test_an_unknown_topology_is_told_with_the_nearest(name: str, message: str):
    with pytest.raises(UserError, match=message):
        topology_of(name)


def test_a_type_of_slice_names_its_topology():
    assert topology_of("v4-8").name == "v4:2x2x1"


def test_what_libtpu_says_of_an_unknown_topology_is_told_once(capfd):
    with pytest.raises(UserError):
        topology_of("v4:3x4x4")
    assert capfd.readouterr() == ("", "")


def test_without_libtpu_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install libtpu"):
        topology_of("v4:2x2x1")


@pytest.mark.parametrize(
    ("batch_size", "mesh", "message"),
    [
        (8, {"fsdp": 3}, "does not fill the 4 devices"),
        (2, {"data": 4}, "BATCH_SIZE = 2 does not divide over the 4 devices"),
        (4, {"data": 4}, "num_microbatches = 2 leaves 2 rows"),
    ],
)
def test_what_does_not_divide_is_told_before_anything_is_compiled(
    batch_size: int, mesh: dict, message: str
):
    with pytest.raises(UserError, match=message):
        run_of(batch_size, **mesh).training_step(topology_of("v4:2x2x1"))


def test_a_rule_that_names_an_unknown_axis_is_told():
    rules = (("embed", ("chips",)),)
    with pytest.raises(UserError, match="'embed' is laid on 'chips'; mesh axes are data"):
        run_of(fsdp=4, rules=rules).training_step(topology_of("v4:2x2x1"))


def test_links_of_a_torus():
    topology = topology_of("v4:4x4x4")
    places = [topology.place(d)[1:] for d in topology.devices]
    assert links(places, topology) == 6
    assert links([p for p in places if p[0] == 0], topology) == 4
    assert links([p for p in places if tuple(p[:2]) == (0, 0)], topology) == 2
    assert links([p for p in places if tuple(p[:2]) == (0, 0)][:2], topology) == 1
    small = topology_of("v4:2x2x1")
    assert links([small.place(d)[1:] for d in small.devices], small) == 2  # no rings


def test_the_roofline_in_closed_form():
    topology = topology_of("v4:4x4x4")
    mesh = Partitioner(fsdp=16, tensor=4).mesh(topology.devices)

    def collective(kind: str, group: tuple[int, ...], *, asynchronous: bool) -> Collective:
        return Collective(kind, ("tensor",), 4 * 10**9, 2.0, "f32", group, asynchronous, "")

    made = roofline(
        [Kernel("a", 2.0, 275e12, 1.2e12 / 2, 2.1e9), Kernel("b", 1.0, 0.0, 1.2e12)],
        [
            collective("all-reduce", (0, 1, 2, 3), asynchronous=False),
            collective("all-gather", (0, 1, 2, 3), asynchronous=True),
        ],
        topology,
        mesh,
    )
    assert (made.compute, made.hbm, made.kernels) == (2.0, 2.0, 3.0)
    assert made.bound_by == "computation"
    beside = Kernel("c", 1.0, 0.0, 1.2e12, hidden=True)
    with_it = roofline([Kernel("b", 1.0, 0.0, 1.2e12), beside], [], topology, mesh)
    assert (with_it.hbm, with_it.kernels, with_it.bound_by) == (2.0, 1.0, "HBM")
    assert made.modelled == 4.0
    gather = 2 * 3e9 / (2 * 4.5e10)
    assert made.exposed_ici == pytest.approx(2 * gather)
    assert made.ici == pytest.approx(3 * gather)
    assert made.step == pytest.approx(3.0 + 2 * gather)
    assert made.modelled_step == pytest.approx(4.0 + 2 * gather)
    assert made.bound == 2.0
    between = dataclasses.replace(
        collective("all-reduce", (), asynchronous=True), between_slices=True
    )
    two = dataclasses.replace(topology, slices=2)
    assert roofline([], [between], two, mesh).dcn == pytest.approx(2 * 4e9 / 6.25e9)
    assert Roofline(1, 1, 1, 1, 0.5, 0.2, 4).step == pytest.approx(4.2)


def test_a_search_tries_what_divides_and_writes_the_best_that_fits(
    planned: tuple[Run, Path, Figures], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    run, cache, made = planned
    topology = topology_of("v4:2x2x1")
    tried = list(search.candidates(run, topology))
    for each in tried:
        mesh = each.run.partitioner
        assert mesh.data * mesh.fsdp * mesh.tensor == 4
        assert 8 % (each.run.trainer.num_microbatches * mesh.data * mesh.fsdp) == 0
    assert len({repr(each.run) for each in tried}) == len(tried)
    # Seconds come from the compiler; here each layout has those of one that was compiled.
    fast = dataclasses.replace(made, roofline=dataclasses.replace(made.roofline, kernels=0.0))

    def compiled(candidate: search.Candidate, *_: object) -> search.Candidate:
        full = candidate.run.model.network.remat_policy == "full"
        return dataclasses.replace(candidate, figures=fast if full else made, needed=made.hbm)

    monkeypatch.setattr(search, "_compiled", compiled)
    found = search.search(run, topology, tries=len(tried), cache_dir=str(cache))
    assert found.best.run.model.network.remat_policy == "full"
    assert found.own.run.partitioner == Partitioner(data=1, fsdp=2, tensor=2)
    assert found.as_json()["ratio_to_own_layout"] == fast.roofline.step / made.roofline.step
    table = search_report.table_of(found, topology).splitlines()
    assert [line.count("the best") for line in table[1:3]] == [0, 1]
    assert table[1].startswith("the run's own")
    chosen = tmp_path / "chosen.gin"
    chosen.write_text(search_report.gin_text(found.best, topology))
    experiment = "t5x_configs/experiments/tiny/cd_flm.gin"
    config.parse([experiment, str(chosen)])
    assert config.call(NetworkConfig).remat_policy == "full"
    assert config.call(Partitioner).fsdp == found.best.run.partitioner.fsdp
    assert main(["train", f"--gin_file={experiment}", f"--gin_file={chosen}", "--dry_run"]) == 0


def test_a_search_tells_why_layouts_are_dropped(
    planned: tuple[Run, Path, Figures], monkeypatch: pytest.MonkeyPatch
):
    run, _, made = planned
    topology = topology_of("v4:2x2x1")

    def compiled(candidate: search.Candidate, *_: object) -> search.Candidate:
        fsdp = candidate.run.partitioner.fsdp
        if fsdp == 4:
            return dataclasses.replace(candidate, needed=40 * 2**30)
        large = dataclasses.replace(made, hbm=30 * 2**30)
        return dataclasses.replace(candidate, figures=large, needed=30 * 2**30)

    monkeypatch.setattr(search, "_compiled", compiled)
    unlaid = dataclasses.replace(run, partitioner=Partitioner(fsdp=3))
    found = search.search(unlaid, topology, tries=10, cache_dir=None)
    assert (found.best, len(found.tried)) == (None, 20)
    text = search_report.table_of(found, topology)
    assert {each.verdict for each in found.tried} == {"does not fit", "over 92% of HBM"}
    assert "The run's own layout is not on these chips: " in text
    assert "fsdp=3" in text
    assert f"{found.considered - 20} that are slower by the cost model" in text


def test_the_command_takes_an_experiments_own_gin_files(capsys: pytest.CaptureFixture[str]):
    tiny = "--gin_file=t5x_configs/experiments/tiny/ed_mlm.gin"
    mesh = ["--gin.Partitioner.data=1", "--gin.Partitioner.fsdp=3"]
    assert main(["plan", tiny, "--topology=v4:2x2x1", *mesh]) == 2
    message = "data=1, fsdp=3, sequence=1, tensor=1 does not fill the 4 devices"
    assert message in capsys.readouterr().err
